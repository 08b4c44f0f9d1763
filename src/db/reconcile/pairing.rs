//! Which of our calls each row of theirs is about, and whether the two say the same.

use std::time::Duration;

use sqlx::PgConnection;

use super::{Closeness, InstantRange};
use crate::vobiz::Numeric;

/// What is compared; calls of either side inside of it are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareScope {
    /// By the start of the call; ours by `day_at`.
    pub range: InstantRange,
    /// Only these accounts; None means all. A row of theirs that names none counts as theirs: where its call is another's, it differs.
    pub accounts: Option<Vec<String>>,
    /// Nobody named days: the range is that of their rows, and rows without a time count, too.
    pub is_theirs: bool,
    /// How near amounts must be to be the same.
    pub closeness: Closeness,
    /// Those of [`FIELDS`](super::FIELDS) that their rows say. Where one of them leaves such a value blank it says zero.
    pub compared: Vec<&'static str>,
    /// They have a column of currencies.
    pub has_currency: bool,
}

/// How rows that do not name a call of ours are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matching {
    /// So much may lie between the two starts, in either direction.
    pub tolerance: Duration,
    /// Numbers are the same if so many last digits are.
    pub digits: i32,
}

/// Pairs the rows that were loaded with our calls: by call_id alone, or with `matching` by call_id where it is one of ours, else by
/// both numbers and the start where that leaves no choice.
pub async fn pair(
    connection: &mut PgConnection,
    scope: &CompareScope,
    matching: Option<Matching>,
) -> Result<(), sqlx::Error> {
    sqlx::query("analyze pg_temp.reconcile_their").execute(&mut *connection).await?;
    name_further_records(connection).await?;
    take_ours(connection, scope, matching).await?;
    sqlx::query("analyze pg_temp.reconcile_our").execute(&mut *connection).await?;
    if let Some(matching) = matching {
        find_candidates(connection, matching).await?;
        sqlx::query("analyze pg_temp.reconcile_candidate").execute(&mut *connection).await?;
    }
    name_calls(connection, matching.is_some()).await?;
    sqlx::query("analyze pg_temp.reconcile_match").execute(&mut *connection).await?;
    compare(connection, scope).await
}

/// A further record of one uuid is kept by us under uuid and number. Of several that they list we may lack one: it is not the other.
async fn name_further_records(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update pg_temp.reconcile_their t set call_id = t.call_id || '~' || t.record_id
         where exists (select from vobiz.cdr c where c.call_id = t.call_id || '~' || t.record_id)
            or exists (select from vobiz.cdr c where c.call_id = t.call_id and c.vobiz_id::text <> t.record_id)
               and exists (select from pg_temp.reconcile_their o where o.call_id = t.call_id and o.record_id <> t.record_id)",
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Our side, as it is in one snapshot: what is in the scope, what is so near that it may match, and what their rows name.
async fn take_ours(
    connection: &mut PgConnection,
    scope: &CompareScope,
    matching: Option<Matching>,
) -> Result<(), sqlx::Error> {
    let near = matching.map_or(Duration::ZERO, |matching| matching.tolerance);
    sqlx::query(
        "with near as (
           select call_id, account_id, caller_e164, caller_id_number, destination_e164, destination_number, day_at,
                  duration, billsec, cost, streaming_cost, total_cost, currency
           from vobiz.cdr
           where day_at >= $1 - make_interval(secs => $4) and day_at < $2 + make_interval(secs => $4)
             and ($3::text[] is null or account_id = any ($3))
           union all
           -- The same columns of calls that are named but lie elsewhere: they are not missing.
           select call_id, account_id, caller_e164, caller_id_number, destination_e164, destination_number, day_at,
                  duration, billsec, cost, streaming_cost, total_cost, currency
           from vobiz.cdr
           where call_id in (select call_id from pg_temp.reconcile_their)
             and not (day_at >= $1 - make_interval(secs => $4) and day_at < $2 + make_interval(secs => $4)
                      and ($3::text[] is null or account_id = any ($3)))
         )
         insert into pg_temp.reconcile_our
         select call_id, account_id, coalesce(caller_e164, caller_id_number), coalesce(destination_e164, destination_number),
                day_at, duration, billsec, cost, streaming_cost, total_cost, currency,
                day_at >= $1 and day_at < $2 and ($3::text[] is null or account_id = any ($3))
         from near",
    )
    .bind(scope.range.from)
    .bind(scope.range.until)
    .bind(scope.accounts.as_deref())
    .bind(near.as_secs_f64())
    .execute(connection)
    .await
    .map(drop)
}

/// Rows and calls with the same numbers and nearly the same start, of those that no call_id brings together.
async fn find_candidates(connection: &mut PgConnection, matching: Matching) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with t as (
           select line, called_at, account_id,
                  right(regexp_replace(split_part(from_number, '@', 1), '[^0-9]', '', 'g'), $2) as from_digits,
                  right(regexp_replace(split_part(to_number, '@', 1), '[^0-9]', '', 'g'), $2) as to_digits
           from pg_temp.reconcile_their t
           where unreadable is null and called_at is not null
             and not exists (select from pg_temp.reconcile_our o where o.call_id = t.call_id)
         ),
         c as (
           select call_id, called_at, account_id,
                  right(regexp_replace(split_part(from_number, '@', 1), '[^0-9]', '', 'g'), $2) as from_digits,
                  right(regexp_replace(split_part(to_number, '@', 1), '[^0-9]', '', 'g'), $2) as to_digits
           from pg_temp.reconcile_our o
           where not exists (select from pg_temp.reconcile_their t where t.call_id = o.call_id)
         )
         insert into pg_temp.reconcile_candidate
         select t.line, c.call_id,
                -- A choice on either side is no match: nobody guesses which of two calls was meant.
                count(*) over (partition by t.line) = 1 and count(*) over (partition by c.call_id) = 1
         from t join c using (from_digits, to_digits)
         where from_digits <> '' and to_digits <> ''
           -- A call between two accounts is one of each, with the same numbers at the same time.
           and (t.account_id is null or t.account_id = c.account_id)
           and c.called_at between t.called_at - make_interval(secs => $1) and t.called_at + make_interval(secs => $1)",
    )
    .bind(matching.tolerance.as_secs_f64())
    .bind(matching.digits)
    .execute(connection)
    .await
    .map(drop)
}

/// The call that each row is about. Of several rows about one call the first readable one stands for all.
async fn name_calls(connection: &mut PgConnection, by_numbers: bool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with keyed as (
           select t.line, t.unreadable is not null as unreadable,
                  case when $1 then coalesce(o.call_id, s.call_id) else t.call_id end as call_id
           from pg_temp.reconcile_their t
           left join pg_temp.reconcile_our o on o.call_id = t.call_id
           left join pg_temp.reconcile_candidate s on s.line = t.line and s.sole
         ),
         often as (
           select call_id from keyed where call_id is not null group by call_id having count(*) > 1
         ),
         said as (
           select k.line, k.call_id, k.unreadable,
                  case when not k.unreadable then
                    row(t.called_at, trim_scale(t.duration), trim_scale(t.billsec), trim_scale(t.cost),
                        trim_scale(t.streaming_cost), trim_scale(t.total_cost), t.currency, t.account_id)::text
                  end as words
           from often join keyed k using (call_id) join pg_temp.reconcile_their t using (line)
         ),
         repeated as (
           select line, unreadable, row_number() over lines as nth, first_value(line) over lines as first_line,
                  min(words) over calls is distinct from max(words) over calls as contradicted
           from said
           window lines as (partition by call_id order by unreadable, line), calls as (partition by call_id)
         )
         insert into pg_temp.reconcile_match
         select k.line,
                -- An unreadable row beside a readable one is reported, but the call is not missing for it.
                case when not (r.nth > 1 and r.unreadable) or r.line is null then k.call_id end,
                case when r.nth > 1 and not r.unreadable then r.first_line end,
                coalesce(r.contradicted, false)
         from keyed k left join repeated r using (line)",
    )
    .bind(by_numbers)
    .execute(connection)
    .await
    .map(drop)
}

/// Both sides beside each other, each call once, with a word for what it is.
async fn compare(connection: &mut PgConnection, scope: &CompareScope) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into pg_temp.reconcile_pair
         select case
                  when t.unreadable is not null then 'unreadable'
                  when t.contradicted then 'repeated'
                  when t.line is null and open_call.call_id is not null then 'ambiguous'
                  when c.call_id is null and open_line.line is not null then 'ambiguous'
                  when c.call_id is null then 'missing_here'
                  when t.line is null then 'missing_there'
                  when field.differs <> '{}' then 'differs'
                  -- The list is an invoice of each of its rows. One that charges nothing may stand there as often as it likes.
                  when t.again and (t.duration <> 0 or t.billsec <> 0 or t.cost <> 0 or t.streaming_cost <> 0 or t.total_cost <> 0)
                    then 'charged_twice'
                  else 'equal'
                end,
                t.line, c.call_id, field.differs, owner.of_others
         from (select m.call_id as about, m.contradicted, r.line is not null as again, t.*
               from pg_temp.reconcile_match m join pg_temp.reconcile_their t using (line)
               left join (select distinct repeats as line from pg_temp.reconcile_match) r on r.line = m.line
               where m.repeats is null) t
         full join pg_temp.reconcile_our c on c.call_id = t.about
         left join (select distinct line from pg_temp.reconcile_candidate where not sole) open_line on open_line.line = t.line
         left join (select distinct call_id from pg_temp.reconcile_candidate where not sole) open_call
           on open_call.call_id = c.call_id
         cross join lateral (select c.call_id is not null and $3::text[] is not null and c.account_id <> all ($3) as of_others) owner
         cross join lateral (
           -- A value for which they have no column is no difference. A blank where other rows say something stands for nothing but zero,
           -- and only an amount needs a currency.
           select coalesce(array_agg(v.name order by v.nth) filter (
                    where case
                            when v.theirs is null then v.name = any ($7) and abs(v.ours) > v.apart
                            else v.ours is null or abs(v.theirs - v.ours) > v.apart
                          end), '{}')
                  || case
                       when t.currency is null then
                         case when $8 and c.currency is not null
                                   and (t.cost <> 0 or t.streaming_cost <> 0 or t.total_cost <> 0) then '{currency}'::text[]
                              else '{}' end
                       when t.currency is distinct from c.currency then '{currency}'
                       else '{}'
                     end
                  -- Whose call it is: who is asked to pay for it is not who made it.
                  || case when owner.of_others or t.account_id <> c.account_id then '{account_id}'::text[] else '{}' end as differs
           from (select nth, name, coalesce(round(ours, places), ours) as ours, coalesce(round(theirs, places), theirs) as theirs, apart
                 from (values (1, 'duration', c.duration::numeric, t.duration, null::int, 0::numeric), (2, 'billsec', c.billsec, t.billsec, null, 0),
                              (3, 'cost', c.cost, t.cost, $4, $5::text::numeric),
                              (4, 'streaming_cost', c.streaming_cost, t.streaming_cost, $4, $5::text::numeric),
                              (5, 'total_cost', c.total_cost, t.total_cost, $4, $5::text::numeric))
                      as a (nth, name, ours, theirs, places, apart)) v
         ) field
         where c.inside
            or ((coalesce(t.called_at, c.called_at) >= $1 and coalesce(t.called_at, c.called_at) < $2
                 or t.called_at is null and (c.call_id is null or $6))
                and ($3::text[] is null or t.account_id is null or t.account_id = any ($3)))
            -- Of rows that contradict each other any may be the one that was asked for.
            or t.contradicted and exists (
              select from pg_temp.reconcile_match again join pg_temp.reconcile_their r using (line)
              where again.repeats = t.line
                and (r.called_at >= $1 and r.called_at < $2 or r.called_at is null and $6)
                and ($3::text[] is null or r.account_id is null or r.account_id = any ($3)))",
    )
    .bind(scope.range.from)
    .bind(scope.range.until)
    .bind(scope.accounts.as_deref())
    .bind(scope.closeness.decimals.map(i32::from))
    .bind(scope.closeness.tolerance.as_ref().map_or("0", Numeric::as_str))
    .bind(scope.is_theirs)
    .bind(&scope.compared)
    .bind(scope.has_currency)
    .execute(&mut *connection)
    .await?;
    sqlx::query("analyze pg_temp.reconcile_pair").execute(connection).await.map(drop)
}
