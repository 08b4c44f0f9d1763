//! Settled days against the calls of today: what the provider listed of a day must be what is stored and billed of it, for as long as
//! the day counts as settled. A change of a call reopens its days by triggers; here it is looked at without them.

use chrono::{Days, NaiveDate};
use serde::Serialize;
use sqlx::PgConnection;

use crate::vobiz::Numeric;

/// One owner and currency of a settled day, of which Vobiz listed something else than is here now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettledDifference {
    /// The account whose list was read.
    pub account_id: String,
    /// The day as Vobiz names it.
    pub day: NaiveDate,
    /// Account that owns the calls: the same, or one whose calls its list shows.
    pub owner: String,
    /// Currency; empty where the calls name none.
    pub currency: String,
    /// Calls here.
    pub calls_here: i64,
    /// Calls that Vobiz listed.
    pub calls_there: i64,
    /// Seconds talked, here.
    pub billsec_here: i64,
    /// The same in Vobiz's rows.
    pub billsec_there: i64,
    /// Sum of `total_cost` here, to the last digit.
    pub total_here: String,
    /// The same in Vobiz's rows.
    pub total_there: String,
    /// What is here less what was listed: calls, seconds, seconds talked, cost and total.
    #[serde(skip)]
    less: [Numeric; 5],
    /// A day beside it is not settled.
    #[serde(skip)]
    beside_open: bool,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledDays {
    /// Settled days.
    pub days: i64,
    /// Calls that Vobiz listed in them.
    pub calls: i64,
    /// What differs.
    pub differences: Vec<SettledDifference>,
}

/// Days beside a range that may differ together with its first and last.
const BESIDE: Days = Days::new(10);

/// Compares what Vobiz listed of the settled days of a range (as Vobiz names them) with the calls that are here now. A list may put a call
/// that runs over midnight into the day beside its own (the check of a day reads both): days that differ one after the other and are right
/// together are not told, as far as the calls over the midnights between them explain it. Nor is a day beside one that is not settled: the
/// list of that one may have what this one lacks.
pub async fn compare(
    connection: &mut PgConnection,
    accounts: Option<&[String]>,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<SettledDays, sqlx::Error> {
    let said = sqlx::query!(
        r#"select count(distinct (d.account_id, d.day)) as "days!", coalesce(sum(t.calls), 0)::bigint as "calls!"
           from vobiz.provider_day d left join vobiz.ledger_owner_total t on t.check_id = d.check_id
           where d.state = 'settled' and d.reopened_at is null and ($1::text[] is null or d.account_id = any($1))
             and ($2::date is null or d.day >= $2) and ($3::date is null or d.day <= $3)"#,
        accounts as Option<&[String]>,
        from,
        to
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut found = differing(connection, accounts, from, to).await?;
    // Which is rare: only then the days beside are added up as well, of the accounts in question.
    if !found.is_empty() && (from.is_some() || to.is_some()) {
        let wider = (
            from.and_then(|day| day.checked_sub_days(BESIDE)),
            to.and_then(|day| day.checked_add_days(BESIDE)),
        );
        let mut accounts: Vec<String> = found.into_iter().map(|found| found.account_id).collect();
        accounts.dedup();
        found = differing(connection, Some(&accounts), wider.0, wider.1).await?;
    }
    let is_asked_for = |day| from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to);
    let over = over_midnight(connection, &found).await?;
    let mut differences = unexplained(&found, &over);
    differences.retain(|found| is_asked_for(found.day));
    Ok(SettledDays { days: said.days, calls: said.calls, differences })
}

/// The days, owners and currencies of a range of which another figure was listed than there is now, by account, owner and currency.
async fn differing(
    connection: &mut PgConnection,
    accounts: Option<&[String]>,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<Vec<SettledDifference>, sqlx::Error> {
    // Each day is a range of an index. Read at length, all calls would be read, and held against each day.
    let scans: String = sqlx::query_scalar!(r#"select current_setting('enable_seqscan') as "scans!""#)
        .fetch_one(&mut *connection)
        .await?;
    set_scans(connection, "off").await?;
    let rows = sqlx::query!(
        r#"with day as materialized (
             select d.account_id, d.day, d.from_at, d.to_at, k.day_of, d.check_id
             from vobiz.provider_day d join vobiz.ledger_check k on k.id = d.check_id
             where d.state = 'settled' and d.reopened_at is null and ($1::text[] is null or d.account_id = any($1))
               and ($2::date is null or d.day >= $2) and ($3::date is null or d.day <= $3)
           ), whose as materialized (
             select d.account_id, d.day, d.from_at, d.to_at, d.day_of, o.owner, o.owner = d.account_id as own, true as by_list
             from day d join vobiz.compared_owner o on o.account_id = d.account_id
             union all
             -- The list of a parent may repeat calls of a sub-account that is configured by itself: those of them that it showed, and
             -- not how many there are, is what was listed.
             select d.account_id, d.day, d.from_at, d.to_at, d.day_of, t.owner, false, false
             from day d
             join (select distinct t.check_id, t.owner from vobiz.ledger_owner_total t) t on t.check_id = d.check_id
             join vobiz.account a on a.account_id = t.owner
             where t.owner <> d.account_id
           ), figure as (
             select y.account_id, y.day, y.owner, y.currency,
                    array[sum(y.sure * y.calls), coalesce(sum(y.sure * y.duration), 0), coalesce(sum(y.sure * y.billsec), 0),
                          coalesce(sum(y.sure * y.cost), 0), coalesce(sum(y.sure * y.total), 0)] as sure,
                    array[sum(y.here * y.calls), coalesce(sum(y.here * y.duration), 0), coalesce(sum(y.here * y.billsec), 0),
                          coalesce(sum(y.here * y.cost), 0), coalesce(sum(y.here * y.total), 0)] as here,
                    array[sum(y.there * y.calls), coalesce(sum(y.there * y.duration), 0), coalesce(sum(y.there * y.billsec), 0),
                          coalesce(sum(y.there * y.cost), 0), coalesce(sum(y.there * y.total), 0)] as there
             from (
               select w.account_id, w.day, w.owner, coalesce(c.currency, '') as currency,
                      -- Of an owner that is not configured the list of another account may have shown it last.
                      (w.own or w.by_list and c.listed_by = w.account_id)::int as sure, 1 as here, 0 as there,
                      1::numeric as calls, c.duration::numeric as duration, c.billsec::numeric as billsec, c.cost, c.total_cost as total
               from whose w
               cross join lateral (
                 -- By whatever time its day is decided, a call began not much earlier, but for one that lasted longer than a day.
                 select c.currency, c.listed_by, c.duration, c.billsec, c.cost, c.total_cost, c.day_at, c.end_time, c.created_at
                 from vobiz.cdr c
                 where c.account_id = w.owner and c.day_at >= w.from_at - interval '1 day' and c.day_at < w.to_at
                 union all
                 select c.currency, c.listed_by, c.duration, c.billsec, c.cost, c.total_cost, c.day_at, c.end_time, c.created_at
                 from vobiz.cdr c
                 where c.account_id = w.owner and c.day_at < w.from_at - interval '1 day'
                   and c.end_time - c.start_time > interval '1 day' and c.end_time >= w.from_at - interval '1 day' and c.end_time < w.to_at) c
               cross join lateral (select vobiz.deciding_instant(w.day_of, c.day_at, c.end_time, c.created_at) as instant) i
               where i.instant >= w.from_at and i.instant < w.to_at
               union all
               select d.account_id, d.day, t.owner, t.currency, 0, 0, 1, t.calls, t.duration, t.billsec, t.cost, t.total
               from day d join vobiz.ledger_owner_total t on t.check_id = d.check_id) y
             group by y.account_id, y.day, y.owner, y.currency
           ), nearest as (
             -- Of what may be listed, what is nearest to what was.
             select f.account_id, f.day, f.owner, f.currency, f.there,
                    array(select least(greatest(n.there, least(n.sure, n.here)), greatest(n.sure, n.here))
                          from unnest(f.sure, f.here, f.there) with ordinality n (sure, here, there, place) order by n.place) as here
             from figure f
           )
           select n.account_id as "account_id!", n.day as "day!", n.owner as "owner!", n.currency as "currency!", n.here::text[] as "here!", n.there::text[] as "there!",
                  exists (select from vobiz.provider_day d
                          where d.account_id = n.account_id and d.day in (n.day - 1, n.day + 1)
                            and (d.state <> 'settled' or d.reopened_at is not null)) as "beside_open!"
           from nearest n
           where n.here <> n.there
           order by n.account_id, n.owner, n.currency, n.day"#,
        accounts as Option<&[String]>,
        from,
        to
    )
    .fetch_all(&mut *connection)
    .await?;
    set_scans(connection, &scans).await?;
    let numeric = |text: &String| Numeric::of_sum(text).map_err(|error| sqlx::Error::Decode(error.into()));
    rows.into_iter()
        .map(|row| {
            let here: Vec<Numeric> = row.here.iter().map(numeric).collect::<Result<_, _>>()?;
            let there: Vec<Numeric> = row.there.iter().map(numeric).collect::<Result<_, _>>()?;
            let count = |text: &str| {
                text.parse().map_err(|error: std::num::ParseIntError| sqlx::Error::Decode(error.into()))
            };
            Ok(SettledDifference {
                account_id: row.account_id,
                day: row.day,
                owner: row.owner,
                currency: row.currency,
                calls_here: count(&row.here[0])?,
                calls_there: count(&row.there[0])?,
                billsec_here: count(&row.here[2])?,
                billsec_there: count(&row.there[2])?,
                total_here: row.here[4].clone(),
                total_there: row.there[4].clone(),
                less: std::array::from_fn(|place| here[place].minus(&there[place])),
                beside_open: row.beside_open,
            })
        })
        .collect()
}

async fn set_scans(connection: &mut PgConnection, setting: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("select set_config('enable_seqscan', $1, true)", setting)
        .fetch_one(connection)
        .await
        .map(drop)
}

/// Calls, seconds, seconds talked, cost and total of the calls that run over the end of each of these days into the next: which of both
/// lists shows one of them is Vobiz's to decide. The record of a call must bear it out, lest one that was moved explains itself.
async fn over_midnight(
    connection: &mut PgConnection,
    found: &[SettledDifference],
) -> Result<Vec<[Numeric; 5]>, sqlx::Error> {
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let accounts: Vec<&str> = found.iter().map(|day| day.account_id.as_str()).collect();
    let owners: Vec<&str> = found.iter().map(|day| day.owner.as_str()).collect();
    let currencies: Vec<&str> = found.iter().map(|day| day.currency.as_str()).collect();
    let days: Vec<NaiveDate> = found.iter().map(|day| day.day).collect();
    let rows = sqlx::query_scalar!(
        r#"select array[o.calls, o.duration, o.billsec, o.cost, o.total]::text[] as "over!"
           from unnest($1::text[], $2::text[], $3::text[], $4::date[]) with ordinality n (account_id, owner, currency, day, place)
           join vobiz.provider_day d on d.account_id = n.account_id and d.day = n.day
           join vobiz.ledger_check k on k.id = d.check_id
           cross join lateral (
             select count(*)::numeric as calls, coalesce(sum(c.duration), 0)::numeric as duration,
                    coalesce(sum(c.billsec), 0)::numeric as billsec, coalesce(sum(abs(c.cost)), 0) as cost,
                    coalesce(sum(abs(c.total_cost)), 0) as total
             from vobiz.cdr c
             where c.account_id = n.owner and coalesce(c.currency, '') = n.currency and c.day_at < d.to_at
               -- One that lasted longer than a day is found by its end.
               and (c.day_at >= d.to_at - interval '1 day' or c.end_time - c.start_time > interval '1 day' and c.end_time >= d.to_at)
               and (greatest(c.end_time, case when k.day_of = 'created_at' then c.created_at end) >= d.to_at
                    -- Its record may not say when it ended: it can have been then.
                    or k.day_of = 'end_time' and c.end_time is null and c.day_at >= d.to_at - vobiz.longest_call()
                    or k.day_of = 'created_at' and c.created_at is null)
               and coalesce(abs(extract(epoch from c.end_time - c.start_time) - c.duration) <= 60,
                            c.end_time - c.start_time <= vobiz.longest_call(), true)) o
           order by n.place"#,
        &accounts as &[&str],
        &owners as &[&str],
        &currencies as &[&str],
        &days
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|over| {
            let mut figures = std::array::from_fn(|_| Numeric::default());
            for (figure, text) in figures.iter_mut().zip(over) {
                *figure = Numeric::of_sum(text).map_err(|error| sqlx::Error::Decode(error.into()))?;
            }
            Ok(figures)
        })
        .collect()
}

/// What is left of days that differ, by account, owner, currency and day, once those are taken out that are right together by calls over
/// the midnights between them, and those of which nothing can be told yet. `over`: of each day, what runs over its end. Pure.
fn unexplained(found: &[SettledDifference], over: &[[Numeric; 5]]) -> Vec<SettledDifference> {
    let follows = |(a, _): &(&SettledDifference, _), (b, _): &(&SettledDifference, _)| {
        (&a.account_id, &a.owner, &a.currency) == (&b.account_id, &b.owner, &b.currency)
            && a.day.succ_opt() == Some(b.day)
    };
    let of_each: Vec<(&SettledDifference, &[Numeric; 5])> = found.iter().zip(over).collect();
    let mut left = Vec::new();
    for stretch in of_each.chunk_by(follows) {
        // What the days so far have too much is what the next ones lack: it went over the midnight between them.
        let mut moved: [Numeric; 5] = std::array::from_fn(|_| Numeric::default());
        let mut is_explained = Vec::with_capacity(stretch.len());
        for (day, over) in stretch {
            for (sum, less) in moved.iter_mut().zip(&day.less) {
                *sum = &*sum + less;
            }
            is_explained.push(moved.iter().zip(*over).all(|(moved, over)| is_within(moved, over)));
        }
        let right_together = moved.iter().all(|sum| *sum == Numeric::default());
        for (place, (day, _)) in stretch.iter().enumerate() {
            let before = place == 0 || is_explained[place - 1];
            let explained = right_together && before && is_explained[place];
            if !explained && !day.beside_open {
                left.push((*day).clone());
            }
        }
    }
    left.sort_by(|a, b| {
        (&a.account_id, a.day, &a.owner, &a.currency).cmp(&(&b.account_id, b.day, &b.owner, &b.currency))
    });
    left
}

/// Whether an amount, of either sign, is no more than another.
fn is_within(amount: &Numeric, most: &Numeric) -> bool {
    *amount <= *most && Numeric::default().minus(amount) <= *most
}
