//! Days whose list could not be read in parts either: such a cut may take thousands of requests, so it is not tried at each check.

use std::time::Duration;

use chrono::NaiveDate;
use sqlx::PgConnection;

use crate::db::base::time::interval;
use crate::vobiz::AccountId;

/// So long no cut of a day is tried after one that failed.
const RESTS_FOR: Duration = Duration::from_secs(24 * 3600);

/// Why the last cut of a day failed, while none is to be tried. An instant in the future was written by a clock that was ahead.
pub async fn lately(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select uncut as "why!" from vobiz.provider_day
           where account_id = $1 and day = $2 and uncut is not null
             and uncut_at > vobiz.now() - $3::interval and uncut_at < vobiz.now() + interval '1 minute'"#,
        account.as_str(),
        day,
        interval(RESTS_FOR) as _
    )
    .fetch_optional(connection)
    .await
}

/// Writes down why a cut of a day failed, or that one came to its end or was not needed.
pub async fn note(
    connection: &mut PgConnection,
    account: &AccountId,
    day: NaiveDate,
    why: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.provider_day set uncut = $3::text, uncut_at = case when $3::text is not null then vobiz.now() end
         where account_id = $1 and day = $2 and (uncut is not null or $3::text is not null)",
        account.as_str(),
        day,
        why
    )
    .execute(connection)
    .await?;
    Ok(())
}
