//! The values by which a list can be filtered, as far as they are known.

use chrono::NaiveDate;
use sqlx::PgConnection;

use crate::vobiz::AccountId;

/// A filter with more values than this costs more requests than it saves.
pub const MOST_VALUES: usize = 200;

/// The values of a filter of the list: those of calls of the day that are stored, however they came, and those that are published. More
/// than [`MOST_VALUES`] are not counted.
pub async fn known(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
    parameter: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let most = i64::try_from(MOST_VALUES).unwrap_or(i64::MAX) + 1;
    sqlx::query_scalar!(
        r#"with stored as (
             -- A day more on each side: how Vobiz cuts its days may not be known yet.
             select distinct case $3 when 'call_direction' then c.call_direction when 'hangup_cause' then c.hangup_cause
                                     when 'context' then c.context when 'hangup_disposition' then c.hangup_disposition
                                     when 'from_number' then c.caller_id_number when 'to_number' then c.destination_number end as value
             from vobiz.compared_owner o
             join vobiz.cdr c on c.account_id = o.owner and c.day_at >= vobiz.provider_day_start($1, $2::date - 1)
                             and c.day_at < vobiz.provider_day_start($1, $2::date + 2)
             where o.account_id = $1
           ), published as (
             select h.cause as value from vobiz.hangup_cause h where $3 = 'hangup_cause' and h.cause is not null
             union all
             select v.value
             from (values ('call_direction', 'inbound'), ('call_direction', 'outbound'),
                          ('context', 'voice-api'), ('context', 'sip-trunking')) as v (parameter, value)
             where v.parameter = $3
           )
           select distinct k.value as "value!"
           from (select value from stored union all select value from published) k
           where k.value <> '' order by 1 limit $4"#,
        account.as_str(),
        day,
        parameter,
        most
    )
    .fetch_all(connection)
    .await
}
