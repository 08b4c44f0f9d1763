//! The write side of `vobiz.cdr`: one statement, used three ways.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use super::Incoming;
use crate::vobiz::CdrFields;

/// What to do with calls that are stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnConflict {
    /// Leave them, but lock them.
    Lock = 0,
    /// The new version replaces them.
    Replace = 1,
    /// The new version replaces what it says.
    Merge = 2,
}

/// Inserts the calls that are not stored yet and treats the others as told; returns the ids of those written. `rows` must be
/// sorted by `call_id`, each once.
#[expect(clippy::too_many_lines, reason = "one statement: a line for each column of the table")]
pub(super) async fn write(
    connection: &mut PgConnection,
    rows: &[&Incoming],
    on_conflict: OnConflict,
) -> Result<Vec<String>, sqlx::Error> {
    let call_ids: Vec<&str> = rows.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let account_ids: Vec<&str> = rows.iter().map(|row| row.account_id().as_str()).collect();
    let listed_by: Vec<&str> = rows.iter().map(|row| row.listed_by.as_str()).collect();
    let origins: Vec<&str> = rows.iter().map(|row| row.origin.as_str()).collect();
    let announced: Vec<_> = rows.iter().map(|row| row.announced_at).collect();
    let attempts: Vec<i32> = rows.iter().map(|row| row.attempts).collect();
    let fetched: Vec<_> = rows.iter().map(|row| row.requested_at).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_slice()).collect();
    let extras: Vec<Option<&str>> = rows.iter().map(|row| row.cdr.extra.as_deref()).collect();
    // An array of arrays of different lengths is no array: the notes travel as JSON.
    let notes: Vec<String> = rows.iter().map(|row| serde_json::json!(row.cdr.notes).to_string()).collect();
    sqlx::query_scalar!(
        r#"insert into vobiz.cdr as c (
             call_id, account_id, listed_by, origin, first_callback_at, attempts, fetched_at, content_hash,
             extra, notes, call_direction, caller_id_name, caller_id_number, destination_number, start_time,
             progress_time, answer_time, end_time, duration, billsec, ring_time, cost, streaming_cost,
             total_cost, currency, hangup_cause, hangup_cause_code, hangup_cause_name, hangup_disposition,
             hangup_source, failure_code, failure_reason, bridge_uuid, sip_call_id, sip_user_agent, codec,
             mos, jitter, packet_loss, network_addr, carrier_ip, context, region, origination_region,
             campaign_id, customer_endpoint, trunk_id, terminated_to, created_at, updated_at, caller_e164,
             destination_e164, vobiz_id, revision)
           select
             n.call_id, n.account_id, n.listed_by, n.origin, n.first_callback_at, n.attempts, n.fetched_at,
             n.content_hash, n.extra::json,
             coalesce((select array_agg(x) from json_array_elements_text(n.notes::json) x), '{}'),
             n.call_direction, n.caller_id_name, n.caller_id_number, n.destination_number, n.start_time,
             n.progress_time, n.answer_time, n.end_time, n.duration, n.billsec, n.ring_time, n.cost,
             n.streaming_cost, n.total_cost, n.currency, n.hangup_cause, n.hangup_cause_code,
             n.hangup_cause_name, n.hangup_disposition, n.hangup_source, n.failure_code, n.failure_reason,
             n.bridge_uuid, n.sip_call_id, n.sip_user_agent, n.codec, n.mos, n.jitter, n.packet_loss,
             n.network_addr, n.carrier_ip, n.context, n.region, n.origination_region, n.campaign_id,
             n.customer_endpoint, n.trunk_id, n.terminated_to, n.created_at, n.updated_at, n.caller_e164,
             n.destination_e164, n.vobiz_id, 1
           from unnest(
             $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::int4[],
             $7::timestamptz[], $8::bytea[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
             $14::text[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[],
             $19::int4[], $20::int4[], $21::int4[], $22::numeric[], $23::numeric[], $24::numeric[],
             $25::text[], $26::text[], $27::int4[], $28::text[], $29::text[], $30::text[], $31::text[],
             $32::text[], $33::text[], $34::text[], $35::text[], $36::text[], $37::numeric[],
             $38::numeric[], $39::numeric[], $40::text[], $41::text[], $42::text[], $43::text[],
             $44::text[], $45::text[], $46::text[], $47::text[], $48::text[], $49::timestamptz[],
             $50::timestamptz[], $51::text[], $52::text[], $53::int8[]
           ) as n (
             call_id, account_id, listed_by, origin, first_callback_at, attempts, fetched_at, content_hash,
             extra, notes, call_direction, caller_id_name, caller_id_number, destination_number, start_time,
             progress_time, answer_time, end_time, duration, billsec, ring_time, cost, streaming_cost,
             total_cost, currency, hangup_cause, hangup_cause_code, hangup_cause_name, hangup_disposition,
             hangup_source, failure_code, failure_reason, bridge_uuid, sip_call_id, sip_user_agent, codec,
             mos, jitter, packet_loss, network_addr, carrier_ip, context, region, origination_region,
             campaign_id, customer_endpoint, trunk_id, terminated_to, created_at, updated_at, caller_e164,
             destination_e164, vobiz_id)
           -- The lock order of the whole service.
           order by n.call_id
           on conflict (call_id) do update set
             call_direction = coalesce(excluded.call_direction, case when $54 = 2 then c.call_direction end),
             caller_id_name = coalesce(excluded.caller_id_name, case when $54 = 2 then c.caller_id_name end),
             caller_id_number = coalesce(excluded.caller_id_number, case when $54 = 2 then c.caller_id_number end),
             destination_number = coalesce(excluded.destination_number, case when $54 = 2 then c.destination_number end),
             start_time = coalesce(excluded.start_time, case when $54 = 2 then c.start_time end),
             progress_time = coalesce(excluded.progress_time, case when $54 = 2 then c.progress_time end),
             answer_time = coalesce(excluded.answer_time, case when $54 = 2 then c.answer_time end),
             end_time = coalesce(excluded.end_time, case when $54 = 2 then c.end_time end),
             duration = coalesce(excluded.duration, case when $54 = 2 then c.duration end),
             billsec = coalesce(excluded.billsec, case when $54 = 2 then c.billsec end),
             ring_time = coalesce(excluded.ring_time, case when $54 = 2 then c.ring_time end),
             cost = coalesce(excluded.cost, case when $54 = 2 then c.cost end),
             streaming_cost = coalesce(excluded.streaming_cost, case when $54 = 2 then c.streaming_cost end),
             total_cost = coalesce(excluded.total_cost, case when $54 = 2 then c.total_cost end),
             currency = coalesce(excluded.currency, case when $54 = 2 then c.currency end),
             hangup_cause = coalesce(excluded.hangup_cause, case when $54 = 2 then c.hangup_cause end),
             hangup_cause_code = coalesce(excluded.hangup_cause_code, case when $54 = 2 then c.hangup_cause_code end),
             hangup_cause_name = coalesce(excluded.hangup_cause_name, case when $54 = 2 then c.hangup_cause_name end),
             hangup_disposition = coalesce(excluded.hangup_disposition, case when $54 = 2 then c.hangup_disposition end),
             hangup_source = coalesce(excluded.hangup_source, case when $54 = 2 then c.hangup_source end),
             failure_code = coalesce(excluded.failure_code, case when $54 = 2 then c.failure_code end),
             failure_reason = coalesce(excluded.failure_reason, case when $54 = 2 then c.failure_reason end),
             bridge_uuid = coalesce(excluded.bridge_uuid, case when $54 = 2 then c.bridge_uuid end),
             sip_call_id = coalesce(excluded.sip_call_id, case when $54 = 2 then c.sip_call_id end),
             sip_user_agent = coalesce(excluded.sip_user_agent, case when $54 = 2 then c.sip_user_agent end),
             codec = coalesce(excluded.codec, case when $54 = 2 then c.codec end),
             mos = coalesce(excluded.mos, case when $54 = 2 then c.mos end),
             jitter = coalesce(excluded.jitter, case when $54 = 2 then c.jitter end),
             packet_loss = coalesce(excluded.packet_loss, case when $54 = 2 then c.packet_loss end),
             network_addr = coalesce(excluded.network_addr, case when $54 = 2 then c.network_addr end),
             carrier_ip = coalesce(excluded.carrier_ip, case when $54 = 2 then c.carrier_ip end),
             context = coalesce(excluded.context, case when $54 = 2 then c.context end),
             region = coalesce(excluded.region, case when $54 = 2 then c.region end),
             origination_region = coalesce(excluded.origination_region, case when $54 = 2 then c.origination_region end),
             campaign_id = coalesce(excluded.campaign_id, case when $54 = 2 then c.campaign_id end),
             customer_endpoint = coalesce(excluded.customer_endpoint, case when $54 = 2 then c.customer_endpoint end),
             trunk_id = coalesce(excluded.trunk_id, case when $54 = 2 then c.trunk_id end),
             terminated_to = coalesce(excluded.terminated_to, case when $54 = 2 then c.terminated_to end),
             created_at = coalesce(excluded.created_at, case when $54 = 2 then c.created_at end),
             updated_at = coalesce(excluded.updated_at, case when $54 = 2 then c.updated_at end),
             caller_e164 = case when $54 = 2 and excluded.caller_id_number is null
                                then c.caller_e164 else excluded.caller_e164 end,
             destination_e164 = case when $54 = 2 and excluded.destination_number is null
                                     then c.destination_e164 else excluded.destination_e164 end,
             vobiz_id = coalesce(excluded.vobiz_id, case when $54 = 2 then c.vobiz_id end),
             -- A row of a list that names no owner does not change the owner.
             account_id = case when $54 = 2 and excluded.account_id = excluded.listed_by
                               then c.account_id else excluded.account_id end,
             listed_by = excluded.listed_by,
             -- Taking JSON apart reads its escapes, and not each of them is one that text can hold: such rows are built anew
             -- afterwards (see upsert).
             extra = case when $54 = 2 and c.extra is not null and excluded.extra is not null
                               and strpos(excluded.extra::text || c.extra::text, '\u') = 0
                          then (select json_object_agg(coalesce(n.key, o.key), coalesce(n.value, o.value))
                                from json_each(excluded.extra) n full join json_each(c.extra) o on o.key = n.key)
                          else coalesce(excluded.extra, case when $54 = 2 then c.extra end) end,
             notes = case when $54 = 2 then (select array(select distinct unnest(c.notes || excluded.notes)))
                          else excluded.notes end,
             first_callback_at = least(c.first_callback_at, excluded.first_callback_at),
             -- A newer updated_at may come with an older request: keeping the later time would let it win over versions
             -- that are newer than it.
             fetched_at = case when excluded.updated_at is not distinct from c.updated_at
                               then greatest(c.fetched_at, excluded.fetched_at) else excluded.fetched_at end,
             content_hash = excluded.content_hash,
             revision = c.revision + 1
           -- 0 only locks the rows that are there already; 1 replaces them; 2 leaves what the new version does not say.
           where $54 > 0
           returning call_id"#,
        &call_ids as &[&str],
        &account_ids as &[&str],
        &listed_by as &[&str],
        &origins as &[&str],
        &announced as &[Option<DateTime<Utc>>],
        &attempts,
        &fetched,
        &hashes as &[&[u8]],
        &extras as &[Option<&str>],
        &notes,
        &column(rows, |f| f.call_direction.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.caller_id_name.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.caller_id_number.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.destination_number.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.start_time) as &[Option<DateTime<Utc>>],
        &column(rows, |f| f.progress_time) as &[Option<DateTime<Utc>>],
        &column(rows, |f| f.answer_time) as &[Option<DateTime<Utc>>],
        &column(rows, |f| f.end_time) as &[Option<DateTime<Utc>>],
        &column(rows, |f| f.duration) as &[Option<i32>],
        &column(rows, |f| f.billsec) as &[Option<i32>],
        &column(rows, |f| f.ring_time) as &[Option<i32>],
        &column(rows, |f| f.cost) as &[Option<Decimal>],
        &column(rows, |f| f.streaming_cost) as &[Option<Decimal>],
        &column(rows, |f| f.total_cost) as &[Option<Decimal>],
        &column(rows, |f| f.currency.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.hangup_cause.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.hangup_cause_code) as &[Option<i32>],
        &column(rows, |f| f.hangup_cause_name.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.hangup_disposition.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.hangup_source.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.failure_code.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.failure_reason.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.bridge_uuid.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.sip_call_id.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.sip_user_agent.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.codec.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.mos) as &[Option<Decimal>],
        &column(rows, |f| f.jitter) as &[Option<Decimal>],
        &column(rows, |f| f.packet_loss) as &[Option<Decimal>],
        &column(rows, |f| f.network_addr.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.carrier_ip.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.context.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.region.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.origination_region.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.campaign_id.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.customer_endpoint.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.trunk_id.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.terminated_to.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.created_at) as &[Option<DateTime<Utc>>],
        &column(rows, |f| f.updated_at) as &[Option<DateTime<Utc>>],
        &column(rows, |f| f.caller_e164.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.destination_e164.as_deref()) as &[Option<&str>],
        &column(rows, |f| f.vobiz_id) as &[Option<i64>],
        on_conflict as i32,
    )
    .fetch_all(connection)
    .await
}

/// One field of every row: a column.
pub(super) fn column<'a, T>(rows: &[&'a Incoming], field: impl Fn(&'a CdrFields) -> T) -> Vec<T> {
    rows.iter().map(|row| field(&row.cdr.fields)).collect()
}
