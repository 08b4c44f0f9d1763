//! The lists of a parent and of its sub-account that show the same calls, and do not agree.

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::ledger::Ledger;
use vobiz_cdr::simulator::{CallSpec, SimulatorOptions};
use vobiz_cdr::watch::metrics::Metrics;

use super::settled::settled_days;
use super::sub_accounts::{SUB, SUB_TOKEN, ledger_world, parent_and_sub, states, sweep_and_check};
use crate::support::database::{ACCOUNT, Database};
use crate::support::world::{TOKEN, account, credentials};

/// Of lists that name nobody, each account takes the calls for its own; what the parent's leaves out says nothing against the sub-account's.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_names_no_owner_contradicts_nobody() {
    for sub_first in [false, true] {
        let database = Database::new().await;
        let vobiz =
            parent_and_sub(SimulatorOptions { parent_sees_subs: true, ..SimulatorOptions::default() }).await;
        let began = ledger_world(&database, &vobiz, &[ACCOUNT, SUB]).await;
        let started_at = Some(began + TimeDelta::hours(2));
        let spec = CallSpec { account: Some(SUB.into()), started_at, ..CallSpec::default() };
        vobiz.place_call(spec.with("account_id", "null"));
        let (url, pool) = (vobiz.api_url(), &database.pool);
        let mut accounts = vec![
            account(pool, &url, credentials(ACCOUNT, &[TOKEN]), 1000.0),
            account(pool, &url, credentials(SUB, &[SUB_TOKEN]), 1000.0),
        ];
        if sub_first {
            accounts.reverse();
        }
        for _ in 0..3 {
            sweep_and_check(&database, &accounts).await;
            database.run("update vobiz.provider_day set check_at = vobiz.now()").await;
        }
        assert_eq!(database.texts("select account_id from vobiz.cdr").await, [SUB]);
        let states = states(&database).await;
        assert!(states.iter().all(|state| state.contains(" settled")), "{sub_first}: {states:?}");
        settled_days(&database).await;
        vobiz.stop().await;
    }
}

/// Whom Vobiz bills is said otherwise by each list: one of them is believed, in whatever order they come, and the other one's day says so.
#[tokio::test(flavor = "multi_thread")]
async fn lists_that_name_each_other_do_not_move_a_call_to_and_fro() {
    let mut billed = Vec::new();
    for sub_first in [false, true] {
        let database = Database::new().await;
        let vobiz =
            parent_and_sub(SimulatorOptions { parent_sees_subs: true, ..SimulatorOptions::default() }).await;
        let began = ledger_world(&database, &vobiz, &[ACCOUNT, SUB]).await;
        let started_at = Some(began + TimeDelta::hours(2));
        let spec = CallSpec { account: Some(SUB.into()), started_at, ..CallSpec::default() };
        // The sub-account's list names the parent.
        let call = vobiz.place_call(spec.with("account_id", &format!("\"{ACCOUNT}\""))).call_id;
        let (url, pool) = (vobiz.api_url(), &database.pool);
        let main = account(pool, &url, credentials(ACCOUNT, &[TOKEN]), 1000.0);
        let sub = account(pool, &url, credentials(SUB, &[SUB_TOKEN]), 1000.0);
        for round in 0..4 {
            let is_sub = (round % 2 == 0) == sub_first;
            // The parent's names the sub-account.
            let names = if is_sub { ACCOUNT } else { SUB };
            let said = ("account_id".to_owned(), Some(format!("\"{names}\"")));
            vobiz
                .revise(&call, |call| {
                    call.set = [said].into();
                    call.updated_at = began + TimeDelta::hours(3);
                })
                .unwrap();
            // Both are configured.
            let accounts = vec![main.clone(), sub.clone()];
            let ledger = Ledger::new(pool.clone(), accounts, Duration::ZERO, Metrics::new());
            let asked = if is_sub { &sub } else { &main };
            while ledger.check_if_due(asked, &CancellationToken::new()).await.unwrap().is_some() {}
            database.run("update vobiz.provider_day set check_at = vobiz.now()").await;
        }
        billed.extend(database.texts("select concat_ws(' ', account_id, listed_by) from vobiz.cdr").await);
        let versions = database.count("select revision::bigint from vobiz.cdr").await;
        assert!(versions <= 2, "{sub_first}: {versions}");
        let states = states(&database).await;
        assert!(states.iter().any(|state| state.contains("differs")), "{sub_first}: {states:?}");
        vobiz.stop().await;
    }
    assert_eq!(billed, [format!("{ACCOUNT} {SUB}"), format!("{ACCOUNT} {SUB}")]);
}

/// A correction of a call of a retired sub-account comes in its parent's list alone: it wins as the list does that says so again and again,
/// and the days of the account are proven by that list then.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_retired_account_had_proven_is_corrected_and_proven_by_its_parents_list() {
    let database = Database::new().await;
    let vobiz =
        parent_and_sub(SimulatorOptions { parent_sees_subs: true, ..SimulatorOptions::default() }).await;
    let began = ledger_world(&database, &vobiz, &[ACCOUNT, SUB]).await;
    let mut calls = Vec::new();
    for hour in 1..3 {
        let placed = vobiz.place_call(CallSpec {
            account: Some(SUB.into()),
            started_at: Some(began + TimeDelta::hours(hour)),
            ended_at: Some(began + TimeDelta::hours(hour) + TimeDelta::seconds(30)),
            cost: Some("0.45".parse().unwrap()),
            streaming_cost: Some("0".parse().unwrap()),
            ..CallSpec::default()
        });
        calls.push(placed.call_id);
    }
    let (url, pool) = (vobiz.api_url(), &database.pool);
    let main = account(pool, &url, credentials(ACCOUNT, &[TOKEN]), 1000.0);
    let sub = account(pool, &url, credentials(SUB, &[SUB_TOKEN]), 1000.0);
    sweep_and_check(&database, &[main.clone(), sub]).await;
    let proven = format!("select retired_at = safe_to from vobiz.safe_to_bill where account_id = '{SUB}'");
    let proven = format!("select count(*) from ({proven}) p (is_proven) where is_proven");
    database
        .run(&format!(
            "update vobiz.account set retired_at = s.safe_to from vobiz.safe_to_bill s
             where s.account_id = '{SUB}' and vobiz.account.account_id = '{SUB}'"
        ))
        .await;
    assert_eq!(database.count(&proven).await, 1);
    vobiz.revise(&calls[0], |call| call.cost = "3.00".parse().unwrap()).unwrap();
    let billed = "select sum(total_cost)::float8::text from vobiz.cdr";
    for round in 0..4 {
        database.run("update vobiz.provider_day set check_at = vobiz.now() where to_at < vobiz.now()").await;
        sweep_and_check(&database, std::slice::from_ref(&main)).await;
        database.advance_clock(TimeDelta::minutes(15)).await;
        vobiz.advance(TimeDelta::minutes(15));
        if round == 0 {
            assert_eq!(database.text(billed).await, "0.9");
            assert_eq!(database.count(&proven).await, 0, "what is corrected is not proven");
        }
    }
    assert_eq!(database.text(billed).await, "3.45");
    let overruled = "select count(*) from vobiz.audit where action = 'overruled_by_list'";
    assert_eq!(database.count(overruled).await, 1);
    let states = states(&database).await;
    assert!(states[0].starts_with(&format!("{ACCOUNT} settled 2 2")), "{states:?}");
    let held =
        database.text(&format!("select held_by from vobiz.safe_to_bill where account_id = '{SUB}'")).await;
    assert_eq!(database.count(&proven).await, 1, "{held}");
    vobiz.stop().await;
}
