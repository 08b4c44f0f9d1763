//! Several accounts in one service: a main account and its sub-account, and the customers of a partner.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::account::Account;
use vobiz_cdr::ledger::Ledger;
use vobiz_cdr::simulator::{self, CallSpec, Simulator, SimulatorOptions};
use vobiz_cdr::sweep::Sweeper;
use vobiz_cdr::vobiz::{AccountId, CallId, Credentials, PathStyle};
use vobiz_cdr::watch::metrics::Metrics;

use super::settled::settled_days;
use crate::support::database::{ACCOUNT, Database};
use crate::support::world::{TOKEN, account, credentials, fetcher, noon};

const SUB: &str = "SA_TESTCD34";
const SUB_TOKEN: &str = "tok_sub_91e04c77ab35d2f8";

/// A main account and its sub-account at a Vobiz that is so else.
async fn parent_and_sub(options: SimulatorOptions) -> Simulator {
    let accounts = vec![
        simulator::SimulatedAccount::new(ACCOUNT, TOKEN),
        simulator::SimulatedAccount::new(SUB, SUB_TOKEN).under(ACCOUNT, TOKEN),
    ];
    Simulator::start(SimulatorOptions { accounts, day_zone: 330, ..options }).await.unwrap()
}

/// Makes it noon in India, and the ledger of the accounts begin with the day before yesterday; returns that instant.
async fn ledger_world(database: &Database, vobiz: &Simulator, ids: &[&str]) -> DateTime<Utc> {
    let ids: Vec<AccountId> = ids.iter().map(|id| AccountId::new(id).unwrap()).collect();
    vobiz_cdr::db::account::register(&mut *database.connection().await, &ids).await.unwrap();
    let began = noon(database, vobiz, 330).await - TimeDelta::days(2);
    sqlx::query("update vobiz.account set ledger_since = $1, registered_at = $1")
        .bind(began)
        .execute(&database.pool)
        .await
        .unwrap();
    began
}

fn place(vobiz: &Simulator, account: &str, started_at: DateTime<Utc>) {
    vobiz.place_call(CallSpec {
        account: Some(account.into()),
        started_at: Some(started_at),
        ended_at: Some(started_at + TimeDelta::seconds(30)),
        ..CallSpec::default()
    });
}

/// Sweeps each account and checks all of its days.
async fn sweep_and_check(database: &Database, accounts: &[Arc<Account>]) {
    let sweeper = Sweeper::new(database.pool.clone(), accounts.to_vec(), Duration::ZERO, Metrics::new());
    let ledger = Ledger::new(database.pool.clone(), accounts.to_vec(), Duration::ZERO, Metrics::new());
    let stop = CancellationToken::new();
    for account in accounts {
        sweeper.sweep_if_due(account, &stop).await.unwrap();
        while ledger.check_if_due(account, &stop).await.unwrap().is_some() {}
    }
}

async fn states(database: &Database) -> Vec<String> {
    database
        .texts(
            "select concat_ws(' ', account_id, state, calls_here, calls_there, reason) from vobiz.ledger_day
             where to_at < vobiz.now() order by account_id, day",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parents_list_that_repeats_its_subs_calls_counts_none_twice() {
    for sees in [false, true] {
        let database = Database::new().await;
        let vobiz =
            parent_and_sub(SimulatorOptions { parent_sees_subs: sees, ..SimulatorOptions::default() }).await;
        let began = ledger_world(&database, &vobiz, &[ACCOUNT, SUB]).await;
        for hour in 1..4 {
            place(&vobiz, ACCOUNT, began + TimeDelta::hours(hour));
            place(&vobiz, SUB, began + TimeDelta::hours(hour));
        }
        let (url, pool) = (vobiz.api_url(), &database.pool);
        let accounts = [
            account(pool, &url, credentials(ACCOUNT, &[TOKEN]), 1000.0),
            account(pool, &url, credentials(SUB, &[SUB_TOKEN]), 1000.0),
        ];
        sweep_and_check(&database, &accounts).await;
        let parent = if sees { 6 } else { 3 };
        assert_eq!(
            states(&database).await,
            [
                format!("{ACCOUNT} settled {parent} {parent}"),
                format!("{ACCOUNT} settled"),
                format!("{SUB} settled 3 3"),
                format!("{SUB} settled"),
            ],
            "the parent sees: {sees}"
        );
        let owners =
            "select account_id || ' ' || count(*) from vobiz.cdr group by account_id order by account_id";
        assert_eq!(database.texts(owners).await, [format!("{ACCOUNT} 3"), format!("{SUB} 3")]);
        assert_eq!(settled_days(&database).await, (4, parent + 3));
        // Calls of the sub-account that the parent's list shows hide none of the parent's own.
        for (lost, expected) in [
            (format!("account_id = '{ACCOUNT}'"), vec![format!("{ACCOUNT} {ACCOUNT} 2 3")]),
            (
                format!(
                    "account_id = '{ACCOUNT}' or call_id = (select max(call_id) from vobiz.cdr where account_id = '{SUB}')"
                ),
                {
                    let mut both = vec![format!("{ACCOUNT} {ACCOUNT} 2 3")];
                    both.extend(sees.then(|| format!("{ACCOUNT} {SUB} 2 3")));
                    both.push(format!("{SUB} {SUB} 2 3"));
                    both
                },
            ),
        ] {
            let mut connection = database.connection().await;
            let mut transaction = sqlx::Connection::begin(&mut *connection).await.unwrap();
            let delete = format!(
                "with one as (select min(call_id) as id from vobiz.cdr where account_id = '{ACCOUNT}')
                 delete from vobiz.cdr c using one where ({lost}) and (c.account_id <> '{ACCOUNT}' or c.call_id = one.id)"
            );
            for statement in ["set local session_replication_role = replica", &delete] {
                sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *transaction).await.unwrap();
            }
            let found =
                vobiz_cdr::db::ledger::settled::compare(&mut transaction, None, None, None).await.unwrap();
            let told: Vec<String> = found
                .differences
                .iter()
                .map(|day| format!("{} {} {} {}", day.account_id, day.owner, day.calls_here, day.calls_there))
                .collect();
            assert_eq!(told, expected, "the parent sees: {sees}");
        }
        let lost = "select account_id || ' ' || calls from vobiz.callback_loss where calls > 0 order by 1";
        assert_eq!(database.texts(lost).await, [format!("{ACCOUNT} 3"), format!("{SUB} 3")]);
        vobiz.stop().await;
    }
}

/// Two lists that contradict each other: what the sub-account's own list says is billed, whichever is read last and however often.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_parents_list_says_of_a_subs_call_does_not_change_what_the_subs_own_list_says() {
    let database = Database::new().await;
    let vobiz = parent_and_sub(SimulatorOptions {
        parent_sees_subs: true,
        lists: simulator::ListFaults { doubles_cost_of_subs: true, ..simulator::ListFaults::default() },
        ..SimulatorOptions::default()
    })
    .await;
    let began = ledger_world(&database, &vobiz, &[ACCOUNT, SUB]).await;
    for hour in 1..3 {
        vobiz.place_call(CallSpec {
            account: Some(SUB.into()),
            started_at: Some(began + TimeDelta::hours(hour)),
            ended_at: Some(began + TimeDelta::hours(hour) + TimeDelta::seconds(30)),
            cost: Some("0.45".parse().unwrap()),
            streaming_cost: Some("0".parse().unwrap()),
            ..CallSpec::default()
        });
    }
    let (url, pool) = (vobiz.api_url(), &database.pool);
    let main = account(pool, &url, credentials(ACCOUNT, &[TOKEN]), 1000.0);
    let sub = account(pool, &url, credentials(SUB, &[SUB_TOKEN]), 1000.0);
    // The parent's list is read first, and once more after the other's; then as often as a list may have to say something.
    for order in [[&main, &sub], [&sub, &main], [&main, &sub], [&sub, &main], [&sub, &main]] {
        sweep_and_check(&database, &order.map(Arc::clone)).await;
        let billed = "select distinct trim_scale(total_cost)::text from vobiz.cdr";
        assert_eq!(database.texts(billed).await, ["0.45"]);
        database.run("update vobiz.provider_day set check_at = vobiz.now()").await;
    }
    let states = states(&database).await;
    let of = |account: &str| states.iter().find(|state| state.starts_with(account)).unwrap();
    assert_eq!(*of(SUB), format!("{SUB} settled 2 2"));
    let parents = of(ACCOUNT);
    assert!(
        parents.contains("differs")
            && parents.contains("the list of the sub-account itself shows 2 of them as stored here"),
        "{parents}"
    );
    vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_sub_account_that_is_not_configured_are_held_against_its_parents_list() {
    let database = Database::new().await;
    let vobiz =
        parent_and_sub(SimulatorOptions { parent_sees_subs: true, ..SimulatorOptions::default() }).await;
    let began = ledger_world(&database, &vobiz, &[ACCOUNT]).await;
    place(&vobiz, ACCOUNT, began + TimeDelta::hours(1));
    place(&vobiz, SUB, began + TimeDelta::hours(2));
    let accounts = [account(&database.pool, &vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 1000.0)];
    sweep_and_check(&database, &accounts).await;
    assert_eq!(states(&database).await[0], format!("{ACCOUNT} settled 2 2"));
    assert_eq!(settled_days(&database).await, (2, 2));
    // One more of the sub-account, which the parent's list does not show.
    database
        .run(
            "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, currency)
             select 'ours-alone', account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, currency
             from vobiz.cdr where account_id like 'SA%'",
        )
        .await;
    database.run("update vobiz.provider_day set check_at = vobiz.now() where reopened_at is not null").await;
    sweep_and_check(&database, &accounts).await;
    let state = &states(&database).await[0];
    assert!(
        state.starts_with(&format!("{ACCOUNT} differs 3 2"))
            && state.contains("missing at Vobiz: ours-alone"),
        "{state}"
    );
    vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_owner_of_calls_has_a_row_of_safe_to_bill() {
    let other = "SA_OTHER456";
    let database = Database::new().await;
    let vobiz = Simulator::start(SimulatorOptions {
        accounts: vec![
            simulator::SimulatedAccount::new(ACCOUNT, TOKEN),
            simulator::SimulatedAccount::new(SUB, SUB_TOKEN).under(ACCOUNT, TOKEN),
            simulator::SimulatedAccount::new(other, "tok_other_0123456789").under(ACCOUNT, TOKEN),
        ],
        day_zone: 330,
        parent_sees_subs: true,
        ..SimulatorOptions::default()
    })
    .await
    .unwrap();
    let began = ledger_world(&database, &vobiz, &[ACCOUNT]).await;
    let rows = "select concat_ws(' | ', account_id, safe_to = (select safe_to from vobiz.safe_to_bill where account_id like 'MA%'), held_by, listed_by)
                from vobiz.safe_to_bill order by account_id";
    let today = (began + TimeDelta::hours(54)).date_naive();
    let expected = |what: &str, owners: &[&str]| -> Vec<String> {
        let one = |owner: &&str| {
            let list = if *owner == ACCOUNT { String::new() } else { format!(" (in the list of {ACCOUNT})") };
            format!("{owner} | t | {what}{list} | {ACCOUNT}")
        };
        owners.iter().map(one).collect()
    };
    place(&vobiz, ACCOUNT, began + TimeDelta::hours(1));
    place(&vobiz, SUB, began + TimeDelta::hours(2));
    let accounts = [account(&database.pool, &vobiz.api_url(), credentials(ACCOUNT, &[TOKEN]), 1000.0)];
    sweep_and_check(&database, &accounts).await;
    assert_eq!(database.texts(rows).await, expected(&format!("day {today} is not over"), &[ACCOUNT, SUB]));
    // One that only a sweep has shown, so far.
    place(&vobiz, other, began + TimeDelta::hours(49));
    let sweeper = Sweeper::new(database.pool.clone(), accounts.to_vec(), Duration::ZERO, Metrics::new());
    sweeper.sweep_if_due(&accounts[0], &CancellationToken::new()).await.unwrap();
    let owners = [ACCOUNT, other, SUB];
    assert_eq!(database.texts(rows).await, expected(&format!("day {today} is not over"), &owners));
    // Held where the list is.
    database.run(&format!("update vobiz.cdr set billsec = billsec + 1 where account_id = '{SUB}'")).await;
    let first = (began + TimeDelta::minutes(330)).date_naive();
    let held = database.texts(rows).await;
    assert_eq!(held.len(), 3, "{held:?}");
    for row in &held {
        assert!(row.contains(&format!("| t | day {first} changed here after it was compared")), "{held:?}");
    }
    let function = format!(
        "select count(distinct safe_to) = 1 from vobiz.safe_to_bill where account_id in ('{SUB}', '{ACCOUNT}')"
    );
    assert_eq!(database.count(&format!("select count(*) from ({function}) f (same) where same")).await, 1);
    // What is owed in its own name holds it alone.
    database.run("update vobiz.cdr set billsec = billsec - 1 where account_id like 'SA_TEST%'").await;
    database.run("update vobiz.provider_day set check_at = vobiz.now() where reopened_at is not null").await;
    sweep_and_check(&database, &accounts).await;
    database.owe(&["owed-alone"], true).await;
    database.run(&format!("update vobiz.cdr_queue set account_id = '{other}'")).await;
    database
        .run("update vobiz.cdr_queue set enqueued_at = vobiz.now() - interval '30 hours', announced_at = vobiz.now() - interval '30 hours'")
        .await;
    let held = database.texts("select account_id || ' ' || held_by from vobiz.safe_to_bill where held_by like '1 call is owed%'").await;
    assert!(held.len() == 1 && held[0].starts_with(other), "{held:?}");
    assert!(held[0].ends_with(" Asia/Kolkata"), "{held:?}");
    // Its moves are noted beside those of the account that lists it.
    let mut connection = database.connection().await;
    let id = AccountId::new(ACCOUNT).unwrap();
    let moved = vobiz_cdr::db::ledger::safe_to_bill::note(&mut connection, &id).await.unwrap();
    let mut moved: Vec<String> = moved.into_iter().map(|moved| moved.account_id).collect();
    moved.sort();
    assert_eq!(moved, owners);
    let metrics = "select count(*) from vobiz.safe_to_bill where since is not null";
    assert_eq!(database.count(metrics).await, 3);
    // One whose account nobody has configured any more says so.
    database
        .run("insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time)
              select 'nobodys', 'SA_NOBODYS1', 'MA_GONE', origin, attempts, fetched_at, revision, content_hash, start_time from vobiz.cdr limit 1")
        .await;
    let held = database.text("select held_by from vobiz.safe_to_bill where account_id = 'SA_NOBODYS1'").await;
    assert_eq!(held, "no account that is configured lists its calls");
    vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partner_reads_each_customer_by_itself() {
    let (partner, token) = ("PA_TESTEF56", "tok_partner_4c1d8e7f2a6b");
    let (one, two) = ("MA_CUSTOM01", "MA_CUSTOM02");
    let database = Database::new().await;
    database.run("delete from vobiz.account where account_id like '%TESTAB%'").await;
    let vobiz = Simulator::start(SimulatorOptions {
        accounts: vec![
            simulator::SimulatedAccount::new(one, "tok_one_0123456789"),
            simulator::SimulatedAccount::new(two, "tok_two_0123456789"),
            simulator::SimulatedAccount::new(partner, token),
        ],
        day_zone: 330,
        ..SimulatorOptions::default()
    })
    .await
    .unwrap();
    let began = ledger_world(&database, &vobiz, &[one, two]).await;
    for hour in 1..4 {
        place(&vobiz, one, began + TimeDelta::hours(hour));
    }
    place(&vobiz, two, began + TimeDelta::hours(30));
    let accounts = [one, two].map(|id| {
        let credentials = Credentials {
            account_id: AccountId::new(id).unwrap(),
            auth_id: AccountId::new(partner).unwrap(),
            tokens: vec![SecretString::from(token)],
            styles: vec![PathStyle::Partner],
        };
        account(&database.pool, &vobiz.api_url(), credentials, 1000.0)
    });
    // The single CDR of a partner is the bare object.
    let call = vobiz.place_call(CallSpec { account: Some(two.into()), ..CallSpec::default() });
    let cdr = accounts[1].client.fetch_cdr(&CallId::new(&call.call_id).unwrap()).await.unwrap();
    assert_eq!(cdr.account_id.unwrap().as_str(), two);
    sweep_and_check(&database, &accounts).await;
    assert_eq!(
        states(&database).await,
        [
            format!("{one} settled 3 3"),
            format!("{one} settled"),
            format!("{two} settled"),
            format!("{two} settled 1 1"),
        ]
    );
    assert_eq!(database.count("select count(*) from vobiz.cdr").await, 5);
    vobiz.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_path_of_a_sub_account_bills_nobody_but_itself_and_a_configured_account_above_it() {
    for (owner, above_too, is_billed) in [
        (format!("\"{ACCOUNT}\""), false, false),
        (format!("\"{ACCOUNT}\""), true, true),
        ("\"MA_OTHER999\"".into(), true, false),
        ("7".into(), false, false),
        ("0.45".into(), true, false),
    ] {
        let case = format!("{owner}, {above_too}");
        let database = Database::new().await;
        let vobiz = parent_and_sub(SimulatorOptions::default()).await;
        let ids = if above_too { vec![ACCOUNT, SUB] } else { vec![SUB] };
        let began = ledger_world(&database, &vobiz, &ids).await;
        place(&vobiz, SUB, began + TimeDelta::hours(1));
        let started_at = Some(began + TimeDelta::hours(2));
        let spec = CallSpec { account: Some(SUB.into()), started_at, ..CallSpec::default() };
        let named = vobiz.place_call(spec.with("account_id", &owner)).call_id;
        let accounts: Vec<Arc<Account>> = ids
            .iter()
            .map(|id| {
                let token = if *id == SUB { SUB_TOKEN } else { TOKEN };
                account(&database.pool, &vobiz.api_url(), credentials(id, &[token]), 1000.0)
            })
            .collect();
        sweep_and_check(&database, &accounts).await;
        let billed = format!("select count(*) from vobiz.cdr where call_id = '{named}'");
        assert_eq!(database.count(&billed).await, i64::from(is_billed), "{case}");
        let kept = "select count(*) from vobiz.unreadable_row where why like 'it is of another account: %'";
        assert_eq!(database.count(kept).await > 0, !is_billed, "{case}");
        // Nor where the call is fetched by itself.
        database.run("delete from vobiz.cdr").await;
        database.owe(&[&named], true).await;
        database.run(&format!("update vobiz.cdr_queue set account_id = '{SUB}'")).await;
        fetcher(&database.pool, accounts).run_until_idle().await;
        assert_eq!(database.count(&billed).await, i64::from(is_billed), "{case}, fetched");
        vobiz.stop().await;
    }
}
