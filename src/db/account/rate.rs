//! The rate limit of an account: slots that all replicas take from one row. Leasing takes its slots
//! by the same arithmetic in its own statement (`db/queue/lease.rs`).

use std::time::Duration;

use sqlx::PgConnection;

use crate::db::base::time::{interval, seconds};
use crate::vobiz::AccountId;

/// Requests that an account may send, reserved for the caller: the first after `wait`, each further one `every` later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slots {
    /// How many.
    pub count: u32,
    /// Until the first one, from now; where there is none, until one may be reserved.
    pub wait: Duration,
    /// Between two of them.
    pub every: Duration,
}

/// Reserves up to `most` requests no further than `ahead` from now (further at a slow rate: `vobiz.reserved_within`). `max_rps` is
/// the limit of all replicas together; a throttling pause lowers what is in force for a while.
///
/// This is GCRA with one row as its state. It does not look at the pause: a probe must get through.
pub async fn reserve(
    connection: &mut PgConnection,
    account: &AccountId,
    max_rps: f64,
    most: u32,
    ahead: Duration,
) -> Result<Slots, sqlx::Error> {
    let row = sqlx::query!(
        r#"with limiter as (
             select account_id, vobiz.first_slot(a, $2 * vobiz.rate_in_force(a)) as first_slot,
                    $2 * vobiz.rate_in_force(a) as rate
             from vobiz.account a where account_id = $1 for no key update
           ), free as (
             select account_id, first_slot, rate, within, extract(epoch from first_slot - vobiz.now())::float8 as wait,
                    case when first_slot > vobiz.now() + within then 0
                         else least($3::bigint, 1 + floor(extract(epoch from vobiz.now() + within - first_slot) * rate)::bigint)
                    end as slots
             from limiter cross join lateral vobiz.reserved_within($4, rate) as within
           ), taken as (
             update vobiz.account a set next_slot = r.first_slot + make_interval(secs => r.slots / r.rate),
                    rate_share_at = least(a.rate_share_at, vobiz.now())
             from free r where a.account_id = r.account_id and r.slots > 0
           )
           select slots as "slots!", case when slots > 0 then wait else greatest(wait - extract(epoch from within), 0)::float8 end as "wait!",
                  rate as "rate!"
           from free"#,
        account.as_str(),
        max_rps,
        i64::from(most),
        interval(ahead) as _,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map_or(Slots { count: 0, wait: ahead, every: ahead }, |row| Slots {
        count: u32::try_from(row.slots).unwrap_or(0),
        wait: seconds(row.wait),
        every: seconds(1.0 / row.rate),
    }))
}
