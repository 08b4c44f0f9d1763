//! What Vobiz's summary counts, held against its own rows: decimals that it does not print, seconds that no call can have, a currency under
//! several names, and amounts beyond all bounds.

use chrono::TimeDelta;
use vobiz_cdr::simulator::{CallSpec, SimulatorOptions, SummaryCurrencies};

use super::{check, ledger_world, of_a_minute, states};
use crate::support::world::{World, options};

/// A day of calls of 0.45 and a minute each, with these members of their records; and how the day stands after its check.
async fn day(options: SimulatorOptions, calls: &[&[(&str, &str)]]) -> (World, String) {
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options }).await;
    for (n, members) in (1..).zip(calls) {
        let spec = of_a_minute(began + TimeDelta::minutes(30 * n));
        world.vobiz.place_call(members.iter().fold(spec, |spec, (key, json)| spec.with(key, json)));
    }
    check(&world).await;
    let first = states(&world).await.remove(0);
    (world, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_that_prints_few_decimals_settles_no_difference() {
    for (decimals, calls, expected) in [
        (None, 2, "settled 2 2 0.90 0.90 2"),
        (Some(2), 2, "settled 2 2 0.90 0.90 2"),
        (Some(0), 2, "differs 2 2 0.90 0.90 2 Vobiz's summary says total_cost 1, its own rows say 0.9"),
        (Some(0), 1, "differs 1 1 0.45 0.45 1 Vobiz's summary says total_cost 0, its own rows say 0.45"),
        (Some(1), 1, "differs 1 1 0.45 0.45 1 Vobiz's summary says total_cost 0.4, its own rows say 0.45"),
    ] {
        let options = SimulatorOptions { summary_decimals: decimals, ..options() };
        let (world, state) = day(options, &vec![&[][..]; calls]).await;
        // Trailing zeros are dropped on the wire.
        let plain = |text: &str| text.replace("0.90", "0.9");
        assert_eq!(plain(&state), plain(expected), "{decimals:?}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seconds_that_no_call_has_settle_where_the_summary_counts_them() {
    for (billsec, duration) in [
        ("-5", "-5"),
        ("42.5", "\"52.5\""),
        ("-1589286045", "-1589286003"),
        ("2592001", "2592011"),
        ("4294967295", "60"),
    ] {
        let odd: &[(&str, &str)] = &[("billsec", billsec), ("duration", duration)];
        let options = SimulatorOptions { summary_counts_stated: true, ..options() };
        let (world, state) = day(options, &[&[], odd]).await;
        assert!(state.starts_with("settled 2 2 "), "{billsec}: {state}");
        let unclear = "select count(*) from vobiz.unclear where field = 'billsec'";
        assert_eq!(world.database.count(unclear).await, 1, "{billsec}");
        world.end().await;
    }
    // What neither the rows nor our reading of them explains is a difference.
    for billsec in ["-5", "42.5"] {
        let (world, state) = day(options(), &[&[("billsec", "50")], &[("billsec", billsec)]]).await;
        assert!(
            state.contains("Vobiz's summary says total_billable_seconds 100, its own rows say"),
            "{billsec}: {state}"
        );
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_name_of_a_currency_does_not_switch_the_comparison_off() {
    for (word, kept) in
        [("₹", "INR"), ("Rs.", "INR"), ("rupees", "INR"), ("INR.", "INR"), ("credits", "CREDITS"), ("$", "$")]
    {
        let json = format!("\"{word}\"");
        let odd: &[(&str, &str)] = &[("currency", &json)];
        let (world, state) = day(options(), &[&[], odd]).await;
        assert!(state.starts_with("settled "), "{word}: {state}");
        let currencies = "select string_agg(distinct currency, ' ' order by currency) from vobiz.cdr";
        assert_eq!(
            world.text(currencies).await,
            if kept == "INR" {
                kept.to_owned()
            } else {
                ["$ INR", "CREDITS INR"][usize::from(kept != "$")].to_owned()
            }
        );
        let noted = "select count(*) from vobiz.unclear where field = 'currency'";
        assert_eq!(world.database.count(noted).await, 1, "{word}");
        world.end().await;
        // A summary that says something else is a difference, and never merely not compared.
        let options = SimulatorOptions { summary_currencies: SummaryCurrencies::Converted, ..options() };
        let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, ..options }).await;
        for n in 1..3 {
            let started = began + TimeDelta::hours(n);
            let spec = CallSpec {
                started_at: Some(started),
                ended_at: Some(started + TimeDelta::seconds(60)),
                cost: Some("0.45".parse().unwrap()),
                streaming_cost: Some("0".parse().unwrap()),
                // Counted at 84.5 in the summary.
                currency: (n == 2).then(|| word.to_owned()),
                ..CallSpec::default()
            };
            world.vobiz.place_call(spec);
        }
        check(&world).await;
        let state = states(&world).await.remove(0);
        assert!(state.starts_with("differs ") && state.contains("says total_cost 38.475"), "{word}: {state}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn amounts_beyond_all_bounds_do_not_end_the_comparison() {
    for digits in [60, 100] {
        let json = "9".repeat(digits);
        let odd: &[(&str, &str)] = &[("cost", &json), ("total_cost", &json)];
        let (world, state) = day(options(), &[&[], odd, odd]).await;
        assert!(state.starts_with("differs 3 3 0.45 0.45 "), "{digits}: {state}");
        let unclear = "select count(*) from vobiz.unclear where field = 'total_cost' and billed and lost";
        assert_eq!(world.database.count(unclear).await, 2, "{digits}");
        world.end().await;
    }
    // By hand there may be such amounts all the same: the sum has a digit more than a number is read with.
    let (world, _) = day(options(), &[&[], &[]]).await;
    world.database.run("update vobiz.cdr set total_cost = repeat('9', 100)::numeric").await;
    super::hurry(&world).await;
    check(&world).await;
    let state = states(&world).await.remove(0);
    assert!(state.starts_with("differs 2 2 1999") && state.contains("2 calls differ"), "{state}");
    assert_eq!(
        world.database.count("select count(*) from vobiz.provider_day where error is not null").await,
        0
    );
    world.end().await;
}
