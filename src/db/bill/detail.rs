//! The reports that are no plain sums: rates, gaps, streams, traffic, quality.

use sqlx::PgConnection;

use super::billing::{ReportFilter, ReportLine};

/// Rates over the whole range: cost and minutes are added up first and divided then.
pub(super) async fn cost_per_minute(
    connection: &mut PgConnection,
    filter: &ReportFilter,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        r#"select array[c.trunk_id, c.prefix, p.name, c.currency, c.call_direction, sum(c.answered)::text, sum(c.billsec)::text,
                        sum(c.pulse_minutes)::text, sum(c.cost)::text, round(sum(c.cost) * 60 / nullif(sum(c.billsec), 0), 6)::text,
                        round(sum(c.cost) / nullif(sum(c.pulse_minutes), 0), 6)::text, sum(c.unanswered)::text,
                        sum(c.unanswered_cost)::text, sum(c.answered_unknown)::text, sum(c.answered_unknown_cost)::text] as "cells!: _",
                  grouping(c.call_direction) = 1 as "total!"
           from vobiz.cost_per_minute c
           left join vobiz.prefix p on p.prefix = c.prefix
           where c.day >= $1 and c.day <= $2 and ($3::text is null or c.account_id = $3)
             and ($4::text is null or c.customer = $4)
           group by grouping sets ((c.trunk_id, c.prefix, p.name, c.currency, c.call_direction), (c.currency))
           order by 2, c.trunk_id, c.prefix, c.currency, c.call_direction"#,
        filter.from,
        filter.to,
        filter.account.as_deref(),
        filter.customer.as_deref()
    )
    .fetch_all(connection)
    .await
}

/// One line a call.
pub(super) async fn cost_gap(
    connection: &mut PgConnection,
    filter: &ReportFilter,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        // Each call is a group of its own; a sum of one NULL stays NULL.
        r#"select array[call_id, day::text, account_id, customer, call_direction, currency, sum(cost)::text,
                        sum(streaming_cost)::text, sum(total_cost)::text, sum(gap)::text] as "cells!: _",
                  grouping(call_id) = 1 as "total!"
           from vobiz.cost_gap
           where day >= $1 and day <= $2 and ($3::text is null or account_id = $3) and ($4::text is null or customer = $4)
           group by grouping sets ((call_id, day, day_at, account_id, customer, call_direction, currency), (currency))
           order by 2, day_at, call_id, currency"#,
        filter.from,
        filter.to,
        filter.account.as_deref(),
        filter.customer.as_deref()
    )
    .fetch_all(connection)
    .await
}

/// One line a note; there is nothing to add up.
pub(super) async fn unclear(
    connection: &mut PgConnection,
    filter: &ReportFilter,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        r#"select array[call_id, day::text, account_id, customer, field, why, came, billed::text, lost::text] as "cells!: _",
                  false as "total!"
           from vobiz.unclear
           where day >= $1 and day <= $2 and ($3::text is null or account_id = $3) and ($4::text is null or customer = $4)
           order by day_at, call_id, field, why, came"#,
        filter.from,
        filter.to,
        filter.account.as_deref(),
        filter.customer.as_deref()
    )
    .fetch_all(connection)
    .await
}

/// Streams by day, with the amounts that they state themselves.
pub(super) async fn stream(
    connection: &mut PgConnection,
    filter: &ReportFilter,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        r#"select array[day::text, account_id, customer, currency, count(*)::text, count(distinct call_id)::text,
                        sum(bill_duration)::text, sum(rounded_bill_duration)::text, sum(billed_amount)::text] as "cells!: _",
                  grouping(day) = 1 as "total!"
           from vobiz.stream
           where day >= $1 and day <= $2 and ($3::text is null or account_id = $3) and ($4::text is null or customer = $4)
           group by grouping sets ((day, account_id, customer, currency), (currency))
           order by 2, day, account_id, customer, currency"#,
        filter.from,
        filter.to,
        filter.account.as_deref(),
        filter.customer.as_deref()
    )
    .fetch_all(connection)
    .await
}

/// Ratios and percentiles have no total.
pub(super) async fn traffic(
    connection: &mut PgConnection,
    filter: &ReportFilter,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        r#"select array[day::text, account_id, call_direction, conversations::text, answered::text, asr_percent::text,
                        ner_percent::text, acd_seconds::text, ring_median::text, ring_p95::text, post_dial_delay_median::text,
                        post_dial_delay_p95::text, busy_hour::text, busy_hour_conversations::text, peak_legs::text,
                        account_peak_legs::text, answered_unknown::text] as "cells!: _",
                  false as "total!"
           from vobiz.traffic_day
           where day >= $1 and day <= $2 and ($3::text is null or account_id = $3)
           order by day, account_id, call_direction"#,
        filter.from,
        filter.to,
        filter.account.as_deref()
    )
    .fetch_all(connection)
    .await
}

/// Percentiles have no total.
pub(super) async fn quality(
    connection: &mut PgConnection,
    filter: &ReportFilter,
) -> Result<Vec<ReportLine>, sqlx::Error> {
    sqlx::query_as!(
        ReportLine,
        r#"select array[day::text, account_id, codec, trunk_id, call_direction, calls::text, answered_without_media::text,
                        mos_mean::text, mos_median::text, mos_p5::text, mos_min::text, poor_percent::text, jitter_median::text,
                        jitter_p95::text, packet_loss_median::text, packet_loss_p95::text, packet_loss_max::text] as "cells!: _",
                  false as "total!"
           from vobiz.quality_day
           where day >= $1 and day <= $2 and ($3::text is null or account_id = $3)
           order by day, account_id, codec, trunk_id, call_direction"#,
        filter.from,
        filter.to,
        filter.account.as_deref()
    )
    .fetch_all(connection)
    .await
}
