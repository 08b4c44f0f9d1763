//! Where rows built anew differ from those that are stored.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use super::Incoming;
use super::write::column;

/// A stored row that differs from the one built anew.
#[derive(Debug)]
pub(super) struct DifferingRow {
    pub(super) call_id: String,
    /// The columns that differ.
    pub(super) columns: Vec<String>,
    /// The billed fields as they are stored, as JSON.
    pub(super) was: String,
}

/// Compares rows built anew with the stored ones. `extra_differs` says so for `extra`, one for each row: Postgres cannot compare
/// everything that type json keeps.
#[expect(clippy::too_many_lines, reason = "one statement: a line for each column of the table")]
pub(super) async fn differ(
    connection: &mut PgConnection,
    rows: &[&Incoming],
    extra_differs: &[bool],
) -> Result<Vec<DifferingRow>, sqlx::Error> {
    let call_ids: Vec<&str> = rows.iter().map(|row| row.cdr.call_id.as_str()).collect();
    let account_ids: Vec<&str> = rows.iter().map(|row| row.account_id().as_str()).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.content_hash.as_slice()).collect();
    // An array of arrays of different lengths is no array: the notes travel as JSON.
    let notes: Vec<String> = rows.iter().map(|row| serde_json::json!(row.cdr.notes).to_string()).collect();
    sqlx::query_as!(
        DifferingRow,
        r#"select call_id as "call_id!", columns as "columns!", was as "was!"
           from (
             select c.call_id, vobiz.billed(c)::text as was,
                    array_remove(array[
                        case when c.account_id is distinct from n.account_id then 'account_id' end,
                        case when c.content_hash is distinct from n.content_hash then 'content_hash' end,
                        -- In which order they came is of no matter.
                        case when not (c.notes @> m.notes and c.notes <@ m.notes) then 'notes' end,
                        case when n.extra_differs then 'extra' end,
                        case when c.call_direction is distinct from n.call_direction then 'call_direction' end,
                        case when c.caller_id_name is distinct from n.caller_id_name then 'caller_id_name' end,
                        case when c.caller_id_number is distinct from n.caller_id_number then 'caller_id_number' end,
                        case when c.destination_number is distinct from n.destination_number then 'destination_number' end,
                        case when c.start_time is distinct from n.start_time then 'start_time' end,
                        case when c.progress_time is distinct from n.progress_time then 'progress_time' end,
                        case when c.answer_time is distinct from n.answer_time then 'answer_time' end,
                        case when c.end_time is distinct from n.end_time then 'end_time' end,
                        case when c.duration is distinct from n.duration then 'duration' end,
                        case when c.billsec is distinct from n.billsec then 'billsec' end,
                        case when c.ring_time is distinct from n.ring_time then 'ring_time' end,
                        case when c.cost is distinct from n.cost then 'cost' end,
                        case when c.streaming_cost is distinct from n.streaming_cost then 'streaming_cost' end,
                        case when c.total_cost is distinct from n.total_cost then 'total_cost' end,
                        case when c.currency is distinct from n.currency then 'currency' end,
                        case when c.hangup_cause is distinct from n.hangup_cause then 'hangup_cause' end,
                        case when c.hangup_cause_code is distinct from n.hangup_cause_code then 'hangup_cause_code' end,
                        case when c.hangup_cause_name is distinct from n.hangup_cause_name then 'hangup_cause_name' end,
                        case when c.hangup_disposition is distinct from n.hangup_disposition then 'hangup_disposition' end,
                        case when c.hangup_source is distinct from n.hangup_source then 'hangup_source' end,
                        case when c.failure_code is distinct from n.failure_code then 'failure_code' end,
                        case when c.failure_reason is distinct from n.failure_reason then 'failure_reason' end,
                        case when c.bridge_uuid is distinct from n.bridge_uuid then 'bridge_uuid' end,
                        case when c.sip_call_id is distinct from n.sip_call_id then 'sip_call_id' end,
                        case when c.sip_user_agent is distinct from n.sip_user_agent then 'sip_user_agent' end,
                        case when c.codec is distinct from n.codec then 'codec' end,
                        case when c.mos is distinct from n.mos then 'mos' end,
                        case when c.jitter is distinct from n.jitter then 'jitter' end,
                        case when c.packet_loss is distinct from n.packet_loss then 'packet_loss' end,
                        case when c.network_addr is distinct from n.network_addr then 'network_addr' end,
                        case when c.carrier_ip is distinct from n.carrier_ip then 'carrier_ip' end,
                        case when c.context is distinct from n.context then 'context' end,
                        case when c.region is distinct from n.region then 'region' end,
                        case when c.origination_region is distinct from n.origination_region then 'origination_region' end,
                        case when c.campaign_id is distinct from n.campaign_id then 'campaign_id' end,
                        case when c.customer_endpoint is distinct from n.customer_endpoint then 'customer_endpoint' end,
                        case when c.trunk_id is distinct from n.trunk_id then 'trunk_id' end,
                        case when c.terminated_to is distinct from n.terminated_to then 'terminated_to' end,
                        case when c.created_at is distinct from n.created_at then 'created_at' end,
                        case when c.updated_at is distinct from n.updated_at then 'updated_at' end,
                        case when c.caller_e164 is distinct from n.caller_e164 then 'caller_e164' end,
                        case when c.destination_e164 is distinct from n.destination_e164 then 'destination_e164' end,
                        case when c.vobiz_id is distinct from n.vobiz_id then 'vobiz_id' end,
                        case when c.day_at <> coalesce(n.start_time, n.end_time, n.created_at, c.stored_at) then 'day_at' end
                      ], null) as columns
             from unnest(
               $1::text[], $2::text[], $3::bytea[], $4::text[], $5::bool[], $6::text[], $7::text[], $8::text[],
               $9::text[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[], $13::timestamptz[],
               $14::int4[], $15::int4[], $16::int4[], $17::numeric[], $18::numeric[], $19::numeric[], $20::text[],
               $21::text[], $22::int4[], $23::text[], $24::text[], $25::text[], $26::text[], $27::text[], $28::text[],
               $29::text[], $30::text[], $31::text[], $32::numeric[], $33::numeric[], $34::numeric[], $35::text[],
               $36::text[], $37::text[], $38::text[], $39::text[], $40::text[], $41::text[], $42::text[], $43::text[],
               $44::timestamptz[], $45::timestamptz[], $46::text[], $47::text[], $48::int8[]
             ) as n (
               call_id, account_id, content_hash, notes, extra_differs, call_direction, caller_id_name,
               caller_id_number, destination_number, start_time, progress_time, answer_time, end_time, duration,
               billsec, ring_time, cost, streaming_cost, total_cost, currency, hangup_cause, hangup_cause_code,
               hangup_cause_name, hangup_disposition, hangup_source, failure_code, failure_reason, bridge_uuid,
               sip_call_id, sip_user_agent, codec, mos, jitter, packet_loss, network_addr, carrier_ip, context,
               region, origination_region, campaign_id, customer_endpoint, trunk_id, terminated_to, created_at,
               updated_at, caller_e164, destination_e164, vobiz_id)
             join vobiz.cdr c on c.call_id = n.call_id
             cross join lateral (
               select coalesce((select array_agg(x) from json_array_elements_text(n.notes::json) x), '{}') as notes) m
           ) d
           where columns <> '{}'
           order by call_id"#,
        &call_ids as &[&str],
        &account_ids as &[&str],
        &hashes as &[&[u8]],
        &notes,
        extra_differs,
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
    )
    .fetch_all(connection)
    .await
}
