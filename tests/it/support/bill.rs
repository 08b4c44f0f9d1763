//! Five calls whose bill was worked out by hand. Days are those of Asia/Kolkata (UTC + 5:30).
//!
//! | call | day, local | what | seconds | money |
//! |---|---|---|---|---|
//! | a1 | 10th 09:30:00 | outbound on trunk T1 to a mobile, bridged as B1 | rang 5, talked 61 | INR 0.90 |
//! | a2 | 10th 09:30:10 | outbound on trunk T1 to Mumbai, bridged as B1 | rang 10, talked 45 | INR 0.45 |
//! | a3 | 10th 23:59:59 | outbound to Britain, not answered | rang 20 | INR 0.02 |
//! | a4 | 11th 00:00:00 | inbound, with two streams | rang 3, talked 60 | USD 0.30 + 0.20, total 0.55 |
//! | a5 | 11th 10:30:00 | outbound to no number, odd cause, changed in 1970 | 7 in all | unknown |

use super::calls::single;
use super::database::Database;

/// What the record of each call says.
const RECORDS: [&str; 5] = [
    r#"{"uuid":"a1","account_id":"MA_TESTAB12","call_direction":"outbound","caller_id_name":"Secret Name",
        "caller_id_number":"+911100000001","destination_number":"+919800000001","start_time":"2026-03-10T04:00:00Z",
        "progress_time":"2026-03-10T04:00:01Z","answer_time":"2026-03-10T04:00:05Z","end_time":"2026-03-10T04:01:06Z",
        "duration":66,"billsec":61,"ring_time":5,"cost":0.90,"streaming_cost":0,"total_cost":0.90,"currency":"INR",
        "hangup_cause":"NORMAL_CLEARING","hangup_cause_code":4000,"bridge_uuid":"B1","sip_call_id":"sip-secret",
        "codec":"PCMU","mos":4.0,"jitter":1,"packet_loss":0.1,"network_addr":"203.0.113.7","region":"ap-south-1",
        "origination_region":"mumbai","campaign_id":"C1","trunk_id":"T1","terminated_to":"+919811111111"}"#,
    r#"{"uuid":"a2","account_id":"MA_TESTAB12","call_direction":"outbound","caller_id_number":"+911100000001",
        "destination_number":"+912212345678","start_time":"2026-03-10T04:00:10Z","answer_time":"2026-03-10T04:00:20Z",
        "end_time":"2026-03-10T04:01:05Z","duration":55,"billsec":45,"ring_time":10,"cost":0.45,"streaming_cost":0,
        "total_cost":0.45,"currency":"INR","hangup_cause":"NORMAL_CLEARING","hangup_cause_code":4000,"bridge_uuid":"B1",
        "codec":"PCMU","mos":3.0,"jitter":3,"packet_loss":0.3,"region":"ap-south-1","trunk_id":"T1"}"#,
    r#"{"uuid":"a3","account_id":"MA_TESTAB12","call_direction":"outbound","caller_id_number":"+911100000001",
        "destination_number":"+447700900123","start_time":"2026-03-10T18:29:59Z","end_time":"2026-03-10T18:30:19Z",
        "duration":20,"billsec":0,"ring_time":20,"cost":0.02,"streaming_cost":0,"total_cost":0.02,"currency":"INR",
        "hangup_cause":"NO_ANSWER","hangup_cause_code":3000,"codec":"PCMU","mos":0,"jitter":0,"packet_loss":0}"#,
    r#"{"uuid":"a4","account_id":"MA_TESTAB12","call_direction":"inbound","caller_id_number":"919800000002",
        "destination_number":"+911100000001","start_time":"2026-03-10T18:30:00Z","end_time":"2026-03-10T18:31:03Z",
        "duration":63,"billsec":60,"ring_time":3,"cost":0.30,"streaming_cost":0.20,"total_cost":0.55,"currency":"USD",
        "hangup_cause":"NORMAL_CLEARING","hangup_cause_code":4010,"codec":"PCMA","mos":4.5,"jitter":2,"packet_loss":0,
        "stream_cdrs":[{"stream_id":"s1","billed_amount":"0.20","bill_duration":44,"rounded_bill_duration":60,
                        "stream_termination_reason":"Connection error"},{"billed_amount":"n/a"}]}"#,
    r#"{"uuid":"a5","account_id":"MA_TESTAB12","call_direction":"outbound","caller_id_number":"+911100000001",
        "destination_number":"sip:desk@example.com","start_time":"2026-03-11T05:00:00Z","duration":7,"billsec":0,
        "currency":"INR","hangup_cause":"WEIRD","hangup_cause_code":7777,"updated_at":"1970-01-01T00:00:00Z"}"#,
];

impl Database {
    /// Stores the five calls; those on trunk T1 are Acme's.
    pub(crate) async fn with_a_bill() -> Self {
        let db = Self::new().await;
        let now = db.now().await;
        for record in RECORDS {
            db.upsert(&[&single(record, now)]).await;
        }
        db.run("insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 'T1', 'Acme')")
            .await;
        db
    }

    /// Stops the clock at noon of the 10th of April, and has the ledger of the account begin with the 1st of March and each of its days
    /// settled but for those from `open` on, if that is one.
    pub(crate) async fn with_settled_days(&self, open: Option<&str>) {
        self.stop_clock("2026-04-10T06:30:00Z".parse().unwrap()).await;
        let open = open.unwrap_or("2026-04-10");
        self.run(&format!(
            "update vobiz.account set ledger_since = '2026-03-01 00:00+05:30';
             delete from vobiz.provider_day;
             with span as (
               select g::date as day, vobiz.billing_day_start(g::date) as from_at, vobiz.billing_day_start(g::date + 1) as to_at
               from generate_series('2026-03-01', '2026-04-10', interval '1 day') g
             ), checked as (
               insert into vobiz.ledger_check (account_id, day, cause, began_at, state, requests, day_of, from_at, to_at, missing_here,
                 missing_there, differing, unreadable, recovered, revised, billed_elsewhere, listed_twice, wrong_sums, unannounced)
               select 'MA_TESTAB12', day, '1h', to_at, 'settled', 1, 'start_time', from_at, to_at, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
               from span where day < '{open}'
               returning id, day
             )
             insert into vobiz.provider_day (account_id, day, from_at, to_at, state, began_at, checked_at, check_id, check_at)
             select 'MA_TESTAB12', s.day, s.from_at, s.to_at, case when c.id is null then 'open' else 'settled' end,
                    case when c.id is not null then s.to_at end, case when c.id is not null then s.to_at end, c.id, s.to_at + interval '1 hour'
             from span s left join checked c on c.day = s.day"
        ))
        .await;
    }
}
