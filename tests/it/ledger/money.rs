//! Days with several currencies: their money is compared as far as the one figure of a summary goes, and where it does not go, that is said
//! wherever the day is read.

use chrono::{DateTime, TimeDelta, Utc};
use vobiz_cdr::db::ledger::status;
use vobiz_cdr::simulator::{CallSpec, Faults, SimulatorOptions, SummaryCost, SummaryCurrencies};

use super::backfill::command;
use super::{check, ledger_world, safe_to, states};
use crate::support::database::ACCOUNT;
use crate::support::running::Running;
use crate::support::wait::until;
use crate::support::world::{TOKEN, World, options, serve_config};

/// Twenty calls in rupees, and some in another currency or none, all in one day; the money that its summary says is `said`, where that is not
/// what the simulator makes of it.
async fn day(
    currencies: SummaryCurrencies,
    summary_cost: SummaryCost,
    others: &[(Option<&str>, &str)],
) -> (World, DateTime<Utc>) {
    let options =
        SimulatorOptions { day_zone: 330, summary_currencies: currencies, summary_cost, ..options() };
    let (world, began) = ledger_world(options).await;
    let place = |n: i64, currency: Option<&str>, cost: &str| {
        let started = began + TimeDelta::minutes(30 * (n + 1));
        let spec = CallSpec {
            started_at: Some(started),
            ended_at: Some(started + TimeDelta::seconds(60)),
            cost: Some(cost.parse().unwrap()),
            streaming_cost: Some("0.20".parse().unwrap()),
            currency: currency.map(str::to_owned),
            ..CallSpec::default()
        };
        world.vobiz.place_call(if currency == Some("") { spec.with("currency", "null") } else { spec });
    };
    for n in 0..20 {
        place(n, Some("INR"), "0.45");
    }
    for (n, (currency, cost)) in (20..).zip(others) {
        place(n, *currency, cost);
    }
    check(&world).await;
    (world, began)
}

async fn first_day(world: &World) -> Vec<String> {
    world
        .database
        .texts(
            "select concat_ws(' | ', state, currency, calls_here, summary_cost, money) from vobiz.ledger_day
             where day = (select min(day) from vobiz.ledger_day) order by currency",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn currencies_that_the_summary_adds_up_or_leaves_out_are_compared() {
    use SummaryCurrencies::{Blind, InrOnly};
    for (currencies, cost, others, field, money) in [
        (Blind, SummaryCost::TotalCost, vec![(Some("USD"), "0.05")], "total_cost", ""),
        (Blind, SummaryCost::Cost, vec![(Some("USD"), "0.05"), (Some("EUR"), "0.04")], "cost", ""),
        (
            InrOnly,
            SummaryCost::TotalCost,
            vec![(Some("USD"), "0.05")],
            "total_cost",
            " | money compared in INR only: Vobiz's summary says 13 and leaves out 0.25 USD of 1 call",
        ),
        (
            InrOnly,
            SummaryCost::Cost,
            vec![(Some("AED"), "0.05"), (Some("USD"), "0.06")],
            "cost",
            " | money compared in INR only: Vobiz's summary says 9 and leaves out 0.25 AED of 1 call, 0.26 USD of 1 call",
        ),
    ] {
        let (world, began) = day(currencies, cost, &others).await;
        let shown = first_day(&world).await;
        assert_eq!(shown.len(), others.len() + 1, "{shown:?}");
        assert!(shown.contains(&format!("settled | INR | 20 | {field}{money}")), "{shown:?}");
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2));
        let counted = world.text("select money_not_compared from vobiz.safe_to_bill").await;
        assert_eq!(counted, if money.is_empty() { "0" } else { "1" });
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_that_nothing_explains_is_said_wherever_the_day_is_read() {
    let (world, began) = day(
        SummaryCurrencies::Converted,
        SummaryCost::TotalCost,
        &[(Some("USD"), "0.95"), (Some("EUR"), "1")],
    )
    .await;
    // 13 rupees, and 1.15 dollars and 1.20 euros at 84.5.
    let words = "money not compared: Vobiz's summary says 211.575, its own rows say 1.2 EUR of 1 call, 13 INR of 20 calls, 1.15 USD of 1 call";
    let shown = first_day(&world).await;
    assert_eq!(shown.len(), 3);
    assert!(shown.iter().all(|line| line.starts_with("settled | ") && line.ends_with(words)), "{shown:?}");
    let first = (began + TimeDelta::minutes(330)).date_naive().to_string();
    let by_hand = command(&world, &["reconcile", "--day", &first]);
    assert_eq!(by_hand.status.code(), Some(0), "{}", by_hand.stderr);
    assert!(by_hand.stdout.contains("money not compared: "), "{}", by_hand.stdout);
    assert!(by_hand.stderr.contains("day settled, with a word on its money"), "{}", by_hand.stderr);
    let seen = status::read(&mut *world.database.connection().await).await.unwrap();
    assert_eq!(seen.safe_to_bill[0].money_not_compared, 1);
    let verified = command(&world, &["verify"]);
    assert_eq!(verified.status.code(), Some(0), "{}", verified.stderr);
    assert!(
        verified.stderr.contains(
            "Vobiz's summary proves not all of the money, or counts a call more than once, on 1 settled day"
        ),
        "{}",
        verified.stderr
    );
    let config = serve_config(&world.vobiz.api_url(), &[(ACCOUNT, TOKEN)], 1000.0);
    let service = Running::start(config, &world.database.url).await;
    until("the status says so", async || {
        service.page("/status").await.1.contains("\"money_not_compared\": 1")
    })
    .await;
    service.end().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_odd_row_does_not_switch_the_comparison_off() {
    // A row without a currency cannot have been converted: what Vobiz adds up for it beside its rows is a difference.
    for json in ["null", "\"\"", "\"   \""] {
        let (world, began) = ledger_world(SimulatorOptions {
            day_zone: 330,
            summary_currencies: SummaryCurrencies::Converted,
            ..options()
        })
        .await;
        for (n, odd) in [false, false, false, true].into_iter().enumerate() {
            let started = began + TimeDelta::hours(i64::try_from(n).unwrap() + 1);
            let spec = CallSpec {
                started_at: Some(started),
                ended_at: Some(started + TimeDelta::seconds(60)),
                cost: Some("0.45".parse().unwrap()),
                streaming_cost: Some("0".parse().unwrap()),
                // Added to the summary at 84.5 times what its row says.
                currency: odd.then(|| "ZZZ".to_owned()),
                ..CallSpec::default()
            };
            world.vobiz.place_call(if odd { spec.with("currency", json) } else { spec });
        }
        check(&world).await;
        let first = states(&world).await.remove(0);
        assert!(first.starts_with("differs "), "{json}: {first}");
        assert!(
            first.ends_with("Vobiz's summary says total_cost 39.375, its own rows say 1.8"),
            "{json}: {first}"
        );
        assert_eq!(safe_to(&world).await.0, began);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_calls_in_another_currency_can_be_played() {
    let faults = Faults { other_currency: 0.3, ..Faults::default() };
    let (world, began) = ledger_world(SimulatorOptions { day_zone: 330, faults, ..options() }).await;
    for n in 0..60 {
        super::at(&world, began, 0.2 + 0.3 * f64::from(n));
    }
    check(&world).await;
    let shown = first_day(&world).await;
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown.iter().all(|line| line.starts_with("settled | ") && !line.contains("money")), "{shown:?}");
    world.end().await;
}

/// Places three calls of 0.45 in a day whose last has this `total_cost`; the others, and it where it has none of its own, have `streaming`.
fn three_calls(world: &World, from: DateTime<Utc>, streaming: &str, total: Option<&str>) {
    for n in 0..3 {
        let started = from + TimeDelta::hours(n + 1);
        let spec = CallSpec {
            started_at: Some(started),
            ended_at: Some(started + TimeDelta::seconds(60)),
            cost: Some("0.45".parse().unwrap()),
            streaming_cost: Some(streaming.parse().unwrap()),
            ..CallSpec::default()
        };
        world.vobiz.place_call(match total.filter(|_| n == 2) {
            Some(json) => spec.with("total_cost", json),
            None => spec,
        });
    }
}

async fn world_of(summary_cost: SummaryCost) -> (World, DateTime<Utc>) {
    ledger_world(SimulatorOptions { day_zone: 330, summary_cost, ..options() }).await
}

const KNOWN: &str = "select coalesce(summary_cost, 'nothing') from vobiz.account";

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_an_odd_total_keeps_its_day_and_teaches_nothing() {
    for (json, total) in [("9.45", "10.35"), ("NaN", "0.9"), ("null", "0.9"), ("\"much\"", "0.9")] {
        let (world, began) = world_of(SummaryCost::Cost).await;
        three_calls(&world, began, "0", Some(json));
        check(&world).await;
        let first = states(&world).await.remove(0);
        let reason = format!(
            "Vobiz's summary says total_cost 1.35, its own rows say {total}; 1 call has a total_cost that is not cost + streaming_cost"
        );
        assert!(first.starts_with("differs ") && first.ends_with(&reason), "{json}: {first}");
        assert_eq!(world.text(KNOWN).await, "nothing", "{json}");
        assert_eq!(safe_to(&world).await.0, began);
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_an_odd_total_is_said_where_summaries_are_known_to_add_up_cost() {
    for (json, total) in [("99.45", "100.35"), ("NaN", "0.9")] {
        let (world, began) = world_of(SummaryCost::Cost).await;
        three_calls(&world, began, "0.20", None);
        three_calls(&world, began + TimeDelta::days(1), "0", Some(json));
        let first = (began + TimeDelta::minutes(330)).date_naive().to_string();
        let learned = "the total_cost of Vobiz's summaries is the sum of cost";
        for says in [true, false] {
            let by_hand = command(&world, &["reconcile", "--day", &first]);
            assert_eq!(by_hand.stderr.contains(learned), says, "{}", by_hand.stderr);
            assert!(!by_hand.stdout.contains("total_cost that is not"), "{}", by_hand.stdout);
        }
        assert_eq!(world.text(KNOWN).await, "cost");
        check(&world).await;
        let second = world
            .text("select concat_ws(' | ', state, summary_cost, money) from vobiz.ledger_day order by day offset 1 limit 1")
            .await;
        assert_eq!(
            second,
            format!(
                "settled | cost | 1 call has a total_cost that is not cost + streaming_cost, and Vobiz's summary compares cost only: it says 1.35, \
                 its own rows say cost 1.35 and total_cost {total}"
            )
        );
        assert_eq!(safe_to(&world).await.0, began + TimeDelta::days(2));
        world.end().await;
    }
}
