//! The marks of an account's sweep: when the next one is due, how far down it reads, and the name of the lease of the one that sweeps.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::db::base::time::interval;
use crate::vobiz::AccountId;

/// What a sweep needs to know before it starts.
#[derive(Debug, Clone)]
pub struct SweepPlan {
    /// Start of this sweep: becomes the mark when it completes.
    pub now: DateTime<Utc>,
    /// The list is read down to here.
    pub down_to: DateTime<Utc>,
    /// This one has the wide overlap.
    pub wide: bool,
    /// How far down it would be read with the narrow overlap.
    pub narrow_to: DateTime<Utc>,
}

impl SweepPlan {
    /// The same sweep with the narrow overlap; the wide one is left to the next sweep.
    #[must_use]
    pub fn narrowed(self) -> Self {
        Self { down_to: self.narrow_to, wide: false, ..self }
    }
}

/// Plans the next sweep, if one is due: newest first, down to the start of the last completed one minus an hour; once an hour
/// minus 26 hours, and a wide one leaves no gap to the one before it. The first sweep of an account goes back 26 hours before
/// it was registered.
pub async fn plan_sweep(
    connection: &mut PgConnection,
    account: &AccountId,
    every: Duration,
) -> Result<Option<SweepPlan>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select vobiz.now() as "now!",
                  swept_at is null or swept_at > vobiz.now() or swept_at <= vobiz.now() - $2::interval as "due!",
                  swept_wide_at is null or swept_wide_at > vobiz.now() or swept_wide_at <= vobiz.now() - interval '1 hour' as "wide!",
                  began - interval '1 hour' as "narrow_to!",
                  -- A wide one that had to wait (see narrowed) still covers what it was to cover.
                  least(began - interval '26 hours',
                        case when swept_wide_at <= vobiz.now() then swept_wide_at else least(registered_at, began) end - interval '25 hours') as "wide_to!"
           from vobiz.account
           -- A sweep that began later than now began when a clock was ahead, and it is not known when; what lies further back than
           -- this is found by the checks of the days.
           cross join lateral (
             select case when sweep_from > vobiz.now() then vobiz.now() - interval '26 hours'
                         else coalesce(sweep_from, least(registered_at, vobiz.now())) end as began) b
           where account_id = $1"#,
        account.as_str(),
        interval(every) as _
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.filter(|row| row.due).map(|row| SweepPlan {
        now: row.now,
        down_to: if row.wide { row.wide_to } else { row.narrow_to },
        wide: row.wide,
        narrow_to: row.narrow_to,
    }))
}

/// Name of the lease of the one that sweeps an account.
pub fn lease_name(account: &AccountId) -> String {
    format!("sweep {account}")
}

/// Writes down a completed sweep.
pub async fn swept(
    connection: &mut PgConnection,
    account: &AccountId,
    plan: &SweepPlan,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.account set sweep_from = $2, swept_at = vobiz.now(),
                swept_wide_at = case when $3 then $2 else swept_wide_at end
         where account_id = $1",
        account.as_str(),
        plan.now,
        plan.wide
    )
    .execute(connection)
    .await?;
    Ok(())
}
