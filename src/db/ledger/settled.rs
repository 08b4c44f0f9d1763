//! Settled days against the calls of today: what the provider listed of a day must be what is stored and billed of it, for as long as
//! the day counts as settled. A change of a call reopens its days by triggers; here it is looked at without them.

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::PgConnection;

/// One currency of a settled day, in which Vobiz listed something else than is here now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettledDifference {
    /// The account whose list was read.
    pub account_id: String,
    /// The day as Vobiz names it.
    pub day: NaiveDate,
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
    /// The days that differ one after the other, this one among them, have the same sums together: a list had put calls of one into
    /// another.
    #[serde(skip)]
    is_made_up_for: bool,
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

/// Compares what Vobiz listed of the settled days of a range (as Vobiz names them) with the calls that are here now, in one snapshot.
/// A list may put a call into the day beside its own (the check of a day reads both): such days differ together, and only what is left
/// of them is told; beside a day that is not settled nothing is.
pub async fn compare(
    connection: &mut PgConnection,
    accounts: Option<&[String]>,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<SettledDays, sqlx::Error> {
    let said = sqlx::query!(
        r#"select count(distinct (d.account_id, d.day)) as "days!", coalesce(sum(t.calls_there), 0)::bigint as "calls!"
           from vobiz.provider_day d left join vobiz.ledger_total t on t.check_id = d.check_id
           where d.state = 'settled' and d.reopened_at is null and ($1::text[] is null or d.account_id = any($1))
             and ($2::date is null or d.day >= $2) and ($3::date is null or d.day <= $3)"#,
        accounts as Option<&[String]>,
        from,
        to
    )
    .fetch_one(&mut *connection)
    .await?;
    let rows = sqlx::query_as!(
        SettledDifference,
        r#"with settled as (
             select d.account_id, d.day, d.from_at, d.to_at, k.day_of, d.check_id
             from vobiz.provider_day d join vobiz.ledger_check k on k.id = d.check_id
             where d.state = 'settled' and d.reopened_at is null and ($1::text[] is null or d.account_id = any($1))
               -- And the days beside the range, with which its first and last may differ together.
               and ($2::date is null or d.day >= $2::date - 1) and ($3::date is null or d.day <= $3::date + 1)
           ), owner as (
             select o.account_id, o.owner, o.owner <> o.account_id as by_list from vobiz.compared_owner o
             union
             -- The list of a parent may repeat the calls of a sub-account that is configured by itself.
             select l.account_id, l.owner, false from vobiz.listed_owner l join vobiz.account a on a.account_id = l.owner
           ), here as (
             select s.account_id, s.day, coalesce(c.currency, '') as currency, count(*) as calls,
                    coalesce(sum(c.duration), 0) as duration, coalesce(sum(c.billsec), 0) as billsec,
                    coalesce(sum(c.cost), 0) as cost, coalesce(sum(c.total_cost), 0) as total
             from settled s
             join owner o on o.account_id = s.account_id
             -- No call lasts longer than a day: by whatever time its day is decided, it began not much earlier.
             join vobiz.cdr c on c.account_id = o.owner and c.day_at >= s.from_at - interval '1 day' and c.day_at < s.to_at
             cross join lateral (
               select case s.day_of when 'end_time' then coalesce(c.end_time, c.day_at)
                                    when 'created_at' then coalesce(c.created_at, c.day_at) else c.day_at end as instant) i
             where (not o.by_list or c.listed_by = s.account_id) and i.instant >= s.from_at and i.instant < s.to_at
             group by s.account_id, s.day, coalesce(c.currency, '')
           ), there as (
             select s.account_id, s.day, t.currency, t.calls_there as calls, t.duration_there as duration, t.billsec_there as billsec,
                    t.cost_there as cost, t.total_there as total
             from settled s join vobiz.ledger_total t on t.check_id = s.check_id
           ), difference as (
             select account_id, day, currency,
                    coalesce(h.calls, 0) as calls_here, coalesce(t.calls, 0) as calls_there,
                    coalesce(h.billsec, 0) as billsec_here, coalesce(t.billsec, 0) as billsec_there,
                    coalesce(h.total, 0) as total_here, coalesce(t.total, 0) as total_there,
                    coalesce(h.duration, 0) - coalesce(t.duration, 0) as duration, coalesce(h.cost, 0) - coalesce(t.cost, 0) as cost
             from here h full join there t using (account_id, day, currency)
             where (coalesce(h.calls, 0), coalesce(h.duration, 0), coalesce(h.billsec, 0), coalesce(h.cost, 0), coalesce(h.total, 0))
                   is distinct from
                   (coalesce(t.calls, 0), coalesce(t.duration, 0), coalesce(t.billsec, 0), coalesce(t.cost, 0), coalesce(t.total, 0))
           ), stretch as (
             -- Days that differ one after the other have the same distance from their place among those that differ.
             select account_id, day, currency, calls_here, calls_there, billsec_here, billsec_there, total_here, total_there, duration, cost,
                    day - (row_number() over (partition by account_id, currency order by day))::integer as stretch
             from difference
           )
           select account_id as "account_id!", day as "day!", currency as "currency!", calls_here as "calls_here!",
                  calls_there as "calls_there!", billsec_here::bigint as "billsec_here!", billsec_there::bigint as "billsec_there!",
                  total_here::text as "total_here!", total_there::text as "total_there!",
                  (sum(calls_here - calls_there) over s = 0 and sum(billsec_here - billsec_there) over s = 0
                   and sum(total_here - total_there) over s = 0 and sum(duration) over s = 0 and sum(cost) over s = 0)
                  -- Beside a day that is not settled nothing can be told yet: its list may have what this one lacks.
                  or bool_or(exists (
                       select from vobiz.provider_day n
                       where n.account_id = stretch.account_id and n.day in (stretch.day - 1, stretch.day + 1)
                         and (n.state <> 'settled' or n.reopened_at is not null))) over s as "is_made_up_for!"
           from stretch window s as (partition by account_id, currency, stretch)
           order by account_id, day, currency"#,
        accounts as Option<&[String]>,
        from,
        to
    )
    .fetch_all(connection)
    .await?;
    let is_asked_for = |day| from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to);
    let differences = rows.into_iter().filter(|row| !row.is_made_up_for && is_asked_for(row.day)).collect();
    Ok(SettledDays { days: said.days, calls: said.calls, differences })
}

/// Has days compared again that are settled and not what was listed; until then they are reopened, and no bill goes past them.
pub async fn reopen(
    connection: &mut PgConnection,
    differences: &[SettledDifference],
) -> Result<(), sqlx::Error> {
    let accounts: Vec<&str> = differences.iter().map(|day| day.account_id.as_str()).collect();
    let days: Vec<NaiveDate> = differences.iter().map(|day| day.day).collect();
    sqlx::query!(
        "update vobiz.provider_day d set reopened_at = vobiz.now(), check_at = vobiz.now()
         from (select distinct account_id, day from unnest($1::text[], $2::date[]) as n (account_id, day)) n
         where d.account_id = n.account_id and d.day = n.day and d.state = 'settled' and d.reopened_at is null",
        &accounts as &[&str],
        &days
    )
    .execute(connection)
    .await?;
    Ok(())
}
