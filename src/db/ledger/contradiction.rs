//! Calls of which the lists of several checks running said the same, and something else than we hold.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use sqlx::PgConnection;

use super::compare::LedgerDifference;
use crate::vobiz::{AccountId, CallId};

/// Checks before the present one that must have found the same.
const BEFORE: i64 = 2;

/// A field, its value here and at Vobiz.
type Contradiction = (String, Option<String>, Option<String>);
/// What a check found of each call.
type ByCall = BTreeMap<String, BTreeSet<Contradiction>>;

/// Uuids of calls that differed in the last checks of a day.
pub async fn calls(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let calls = in_all(&before(connection, account, day).await?);
    // What follows the uuid in the key of a further record is no part of a list row's.
    Ok(calls.keys().map(|key| CallId::uuid_of(key).to_owned()).collect())
}

/// Of the calls that differ now, those that differed in the last checks of the day in the same way.
pub async fn stubborn(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
    now: &[LedgerDifference],
) -> Result<BTreeSet<String>, sqlx::Error> {
    let before = in_all(&before(connection, account, day).await?);
    let mut differs = ByCall::new();
    for difference in now.iter().filter(|difference| difference.kind == "differs") {
        if let (Some(call_id), Some(field)) = (&difference.call_id, &difference.field) {
            let said = (field.clone(), difference.here.clone(), difference.there.clone());
            differs.entry(call_id.clone()).or_default().insert(said);
        }
    }
    let same = |(call_id, said): &(&String, &BTreeSet<Contradiction>)| before.get(*call_id) == Some(*said);
    Ok(differs.iter().filter(same).map(|(call_id, _)| call_id.clone()).collect())
}

/// What each of the last checks found; none where there were not so many, or all of them within a few minutes: one list that was wrong
/// for a moment must not win.
async fn before(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<Vec<ByCall>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"with last as (
             select id, count(*) over () as checks, min(checked_at) over () as since from (
               select id, checked_at from vobiz.ledger_check where account_id = $1 and day = $2 order by id desc limit $3) c
           )
           select l.id, d.call_id as "call_id!", d.field as "field!", d.here, d.there
           from last l
           join vobiz.ledger_difference d on d.check_id = l.id
           where l.checks = $3 and l.since <= vobiz.now() - interval '20 minutes' and d.kind = 'differs' and d.call_id is not null and d.field is not null"#,
        account.as_str(),
        day,
        BEFORE
    )
    .fetch_all(connection)
    .await?;
    let mut checks: BTreeMap<i64, ByCall> = BTreeMap::new();
    for row in rows {
        let said = (row.field, row.here, row.there);
        checks.entry(row.id).or_default().entry(row.call_id).or_default().insert(said);
    }
    Ok(checks.into_values().collect())
}

/// What all of these checks found alike.
fn in_all(checks: &[ByCall]) -> ByCall {
    let Some((first, rest)) = checks.split_first() else { return ByCall::new() };
    if i64::try_from(checks.len()) != Ok(BEFORE) {
        return ByCall::new();
    }
    let alike = |(call_id, said): &(&String, &BTreeSet<Contradiction>)| {
        rest.iter().all(|check| check.get(*call_id) == Some(*said))
    };
    first.iter().filter(alike).map(|(call_id, said)| (call_id.clone(), said.clone())).collect()
}
