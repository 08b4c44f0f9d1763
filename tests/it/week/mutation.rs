//! Four mutations, each by itself on a day that was settled, and each is caught.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use rust_decimal::Decimal;
use vobiz_cdr::simulator::{CallSpec, Direction};

use super::world::World;
use crate::support::wait::until;

/// An account and one of its days, settled long ago.
struct Day<'a> {
    world: &'a World,
    account: String,
    date: NaiveDate,
    from: DateTime<Utc>,
}

/// The status of a day: state, both sides (calls, seconds, money), what its last check found, and why it is not settled.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
struct AccountStatus {
    state: String,
    calls_here: i64,
    calls_there: i64,
    billsec_here: i64,
    billsec_there: i64,
    total_here: Decimal,
    total_there: Decimal,
    recovered: i32,
    missing_there: i32,
    differing: i32,
    reason: Option<String>,
}

impl Day<'_> {
    async fn status(&self) -> AccountStatus {
        sqlx::query_as(
            "select state, calls_here, calls_there, billsec_here, billsec_there, total_here, total_there, recovered,
                    missing_there, differing, reason
             from vobiz.ledger_day where account_id = $1 and day = $2",
        )
        .bind(&self.account)
        .bind(self.date)
        .fetch_one(&self.world.database.pool)
        .await
        .unwrap()
    }

    /// Lets the day fall due, and waits until the service has checked it.
    async fn checked(&self) -> AccountStatus {
        let sql = "update vobiz.provider_day set check_at = vobiz.now() where account_id = $1 and day = $2 returning check_id";
        let before: i64 = sqlx::query_scalar(sql)
            .bind(&self.account)
            .bind(self.date)
            .fetch_one(&self.world.database.pool)
            .await
            .unwrap();
        let sql =
            "select count(*) from vobiz.provider_day where account_id = $1 and day = $2 and check_id > $3";
        until("the day is checked again", async || {
            let checked = sqlx::query_scalar::<_, i64>(sql).bind(&self.account).bind(self.date).bind(before);
            checked.fetch_one(&self.world.database.pool).await.unwrap() == 1
        })
        .await;
        self.status().await
    }

    async fn safe_to_bill(&self) -> DateTime<Utc> {
        self.world.safe_to_bill().await[&self.account]
    }

    /// The record says that it moved back to this day, and then on to where it had been.
    async fn moved_back_and_on(&self, safe: DateTime<Utc>) {
        let sql =
            "select was, safe_to from vobiz.safe_to_bill_move where account_id = $1 order by id desc limit 2";
        let (on, back) = ((Some(self.from), safe), (Some(safe), self.from));
        until("the moves are noted", async || {
            let moves = sqlx::query_as(sql).bind(&self.account).fetch_all(&self.world.database.pool);
            let moves: Vec<(Option<DateTime<Utc>>, DateTime<Utc>)> = moves.await.unwrap();
            moves == [on, back]
        })
        .await;
        let sql = "select moved_back_from from vobiz.safe_to_bill where account_id = $1";
        let from = sqlx::query_scalar::<_, DateTime<Utc>>(sql).bind(&self.account);
        assert_eq!(from.fetch_one(&self.world.database.pool).await.unwrap(), safe);
    }

    /// A call of the day that took money: its id and how it was, to be placed again.
    async fn call(&self) -> CallSpec {
        type Row = (String, DateTime<Utc>, DateTime<Utc>, i32, i32, Decimal, Decimal);
        let row: Row = sqlx::query_as(
            "select call_id, start_time, end_time, ring_time, billsec, cost, streaming_cost from vobiz.cdr
             where account_id = $1 and day_at >= $2 and day_at < $2 + interval '1 day' and billsec > 0 and cost > 0
               and call_direction = 'outbound'
             order by day_at offset 100 limit 1",
        )
        .bind(&self.account)
        .bind(self.from)
        .fetch_one(&self.world.database.pool)
        .await
        .unwrap();
        CallSpec {
            account: Some(self.account.clone()),
            direction: Some(Direction::Outbound),
            call_id: Some(row.0),
            started_at: Some(row.1),
            ended_at: Some(row.2),
            ring_time: Some(row.3.try_into().unwrap()),
            billsec: Some(row.4.try_into().unwrap()),
            cost: Some(row.5),
            streaming_cost: Some(row.6),
            ..CallSpec::default()
        }
    }
}

/// Each by itself on a settled day: a call more at Vobiz, a call less, a paisa and a second changed here.
pub(super) async fn every_mutation_is_caught(world: &World) {
    let (mut safe, accounts) = (world.safe_to_bill().await, ["MA_TESTAB12", "MA_SECOND99"]);
    assert_eq!(safe.len(), accounts.len());
    for (nth, account) in accounts.into_iter().enumerate() {
        let from = world.start + TimeDelta::days(2 + i64::try_from(nth).unwrap());
        let day = Day { world, account: account.to_owned(), date: from.date_naive(), from };
        let safe = safe.remove(account).unwrap();
        if nth == 0 {
            a_call_more_at_vobiz_is_brought_here(&day, safe).await;
            a_call_less_at_vobiz_is_named(&day, safe).await;
        } else {
            a_paisa_is_noticed(&day, safe).await;
            a_second_is_noticed(&day, safe).await;
        }
    }
}

async fn a_call_more_at_vobiz_is_brought_here(day: &Day<'_>, safe: DateTime<Utc>) {
    let was = day.status().await;
    let started_at = day.from + TimeDelta::hours(7);
    let more = day.world.vobiz.place_call(CallSpec {
        account: Some(day.account.clone()),
        started_at: Some(started_at),
        ended_at: Some(started_at + TimeDelta::seconds(90)),
        ring_time: Some(10),
        billsec: Some(80),
        ..CallSpec::default()
    });
    let found = day.checked().await;
    let with_it = AccountStatus {
        state: "settled".into(),
        calls_here: was.calls_here + 1,
        calls_there: was.calls_there + 1,
        billsec_here: was.billsec_here + 80,
        billsec_there: was.billsec_there + 80,
        total_here: was.total_here + more.total_cost(),
        total_there: was.total_there + more.total_cost(),
        recovered: 1,
        ..was
    };
    assert_eq!(found, with_it);
    let stored = sqlx::query_as("select origin, billsec, total_cost from vobiz.cdr where call_id = $1");
    let stored: (String, i32, Decimal) =
        stored.bind(&more.call_id).fetch_one(&day.world.database.pool).await.unwrap();
    assert_eq!(stored, ("sweep".into(), 80, more.total_cost()));
    assert_eq!(day.safe_to_bill().await, safe, "nothing that was billed changed");
}

async fn a_call_less_at_vobiz_is_named(day: &Day<'_>, safe: DateTime<Utc>) {
    let was = day.checked().await;
    let call = day.call().await;
    let call_id = call.call_id.clone().unwrap();
    assert!(day.world.vobiz.forget(&call_id));
    let found = day.checked().await;
    let (billsec, cost) =
        (i64::from(call.billsec.unwrap()), call.cost.unwrap() + call.streaming_cost.unwrap());
    let without_it = AccountStatus {
        state: "differs".into(),
        calls_there: was.calls_there - 1,
        billsec_there: was.billsec_there - billsec,
        total_there: was.total_there - cost,
        missing_there: 1,
        reason: Some(format!("{} INR more here; 1 call is missing at Vobiz: {call_id}", cost.normalize())),
        ..was
    };
    assert_eq!(found, without_it);
    assert_eq!(day.safe_to_bill().await, day.from);
    // It comes back as it was, under its number: with another one it would be another record. All else of it is drawn anew.
    let number = sqlx::query_scalar("select vobiz_id::text from vobiz.cdr where call_id = $1");
    let number: String = number.bind(&call_id).fetch_one(&day.world.database.pool).await.unwrap();
    let set = std::collections::BTreeMap::from([("id".to_owned(), Some(number))]);
    day.world.vobiz.place_call(CallSpec { set, ..call });
    let was = AccountStatus {
        state: "settled".into(),
        calls_there: without_it.calls_there + 1,
        billsec_there: without_it.billsec_there + billsec,
        total_there: without_it.total_there + cost,
        missing_there: 0,
        reason: None,
        ..without_it
    };
    assert_eq!(day.checked().await, was);
    assert_eq!(day.safe_to_bill().await, safe);
    day.moved_back_and_on(safe).await;
}

async fn a_paisa_is_noticed(day: &Day<'_>, safe: DateTime<Utc>) {
    let paisa = Decimal::new(1, 2);
    let shows = |was: AccountStatus| AccountStatus { total_here: was.total_here + paisa, ..was };
    let change = "update vobiz.cdr set cost = cost + 0.01, total_cost = total_cost + 0.01 where call_id = $1";
    let mend = "update vobiz.cdr set cost = cost - 0.01, total_cost = total_cost - 0.01 where call_id = $1";
    a_change_by_hand_is_noticed(day, safe, [change, mend], "0.01 INR more here; ", shows).await;
}

async fn a_second_is_noticed(day: &Day<'_>, safe: DateTime<Utc>) {
    let shows = |was: AccountStatus| AccountStatus { billsec_here: was.billsec_here + 1, ..was };
    let change = "update vobiz.cdr set billsec = billsec + 1 where call_id = $1";
    let mend = "update vobiz.cdr set billsec = billsec - 1 where call_id = $1";
    a_change_by_hand_is_noticed(day, safe, [change, mend], "", shows).await;
}

async fn a_change_by_hand_is_noticed(
    day: &Day<'_>,
    safe: DateTime<Utc>,
    [change, mend]: [&'static str; 2],
    money: &str,
    shows: impl FnOnce(AccountStatus) -> AccountStatus,
) {
    let pool = &day.world.database.pool;
    let audited = "select count(*) from vobiz.audit where action = 'cdr_changed_by_hand' and call_id = $1";
    let audited = async |call_id: &str| {
        sqlx::query_scalar::<_, i64>(audited).bind(call_id.to_owned()).fetch_one(pool).await.unwrap()
    };
    let was = day.checked().await;
    assert_eq!((was.state.as_str(), day.safe_to_bill().await), ("settled", safe));
    let call_id = day.call().await.call_id.unwrap();
    let before = audited(&call_id).await;
    sqlx::query(change).bind(&call_id).execute(pool).await.unwrap();
    // At once, before anything polls.
    assert_eq!((day.status().await.state.as_str(), day.safe_to_bill().await), ("reopened", day.from));
    assert_eq!(audited(&call_id).await, before + 1);
    let reason = Some(format!("{money}1 call differs: {call_id}"));
    let found = day.checked().await;
    let differs = AccountStatus { state: "differs".into(), differing: 1, reason, ..shows(was.clone()) };
    assert_eq!(found, differs);
    assert_eq!(day.safe_to_bill().await, day.from);

    sqlx::query(mend).bind(&call_id).execute(pool).await.unwrap();
    assert_eq!(day.checked().await, was);
    assert_eq!(day.safe_to_bill().await, safe);
    day.moved_back_and_on(safe).await;
}
