//! Calls in all their states: announced, leased, failed, and CDRs to store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use uuid::Uuid;
use vobiz_cdr::db::account::Replica;
use vobiz_cdr::db::cdr::{self, Incoming, Origin, Upserted};
use vobiz_cdr::db::queue::enqueue::{self, CallbackEntry, CallbackOutcome, Committed, Owed};
use vobiz_cdr::db::queue::{
    self, Failed, FetchOutcome, Lease, ScanStarts, StoredOutcomes, Then, dead_letter,
};
use vobiz_cdr::retry::ErrorClass;
use vobiz_cdr::vobiz::{AccountId, CallId, Cdr, HomeCountry, Proof, Single, decode_single};

use super::database::{ACCOUNT, Database};

/// How long a lease of these tests lasts.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// How many calls have other billed fields than `vobiz.cdr_as_of` finds in their versions.
pub(crate) const DIFFERS_FROM_ITS_VERSIONS: &str = "
    select count(*) from vobiz.cdr c full join vobiz.cdr_as_of('infinity') a using (call_id)
    where (c.account_id, c.day_at, c.call_direction, c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency,
           c.updated_at)
      is distinct from
          (a.account_id, a.day_at, a.call_direction, a.duration, a.billsec, a.cost, a.streaming_cost, a.total_cost, a.currency,
           a.updated_at)";

pub(crate) fn account() -> AccountId {
    AccountId::new(ACCOUNT).unwrap()
}

/// The process that asks.
pub(crate) fn replica() -> Arc<Replica> {
    Replica::this()
}

pub(crate) fn call_id(text: &str) -> CallId {
    CallId::new(text).unwrap()
}

/// A call as a callback owes it, with its entry in the log.
pub(crate) fn announced(call: &str, certain: bool) -> (CallbackEntry, Owed) {
    let entry = CallbackEntry {
        id: Uuid::now_v7(),
        event: "Hangup".into(),
        call_id: Some(call_id(call)),
        account_id: Some(account()),
        proof: if certain { Proof::V3 } else { Proof::None },
        nonces: vec![],
        outcome: CallbackOutcome::Owed,
        note: None,
        remote_address: None,
        query: None,
        body: Bytes::from_static(b"Event=Hangup"),
    };
    let owed = Owed {
        call_id: call_id(call),
        account_id: account(),
        account_proven: certain,
        other_account: None,
        certain,
        by_secret: false,
        hurries: false,
        sip_call_id: None,
    };
    (entry, owed)
}

/// Commits callbacks that announce the end of these calls, due at once.
pub(crate) async fn announce(
    connection: &mut PgConnection,
    calls: &[&str],
    certain: bool,
) -> Result<Committed, sqlx::Error> {
    let (entries, owed): (Vec<_>, Vec<_>) = calls.iter().map(|call| announced(call, certain)).unzip();
    let (entries, owed): (Vec<_>, Vec<_>) = (entries.iter().collect(), owed.iter().collect());
    enqueue::commit(connection, &entries, &owed, Duration::ZERO).await
}

/// Leases up to `most` calls of [`ACCOUNT`] with a rate limit that is never felt.
pub(crate) async fn try_lease(connection: &mut PgConnection, most: u32) -> Result<Vec<Lease>, sqlx::Error> {
    let ahead = Duration::from_secs(1);
    queue::lease(connection, (&account(), &replica()), most, 1e6, ahead, LEASE, ScanStarts::default())
        .await
        .map(|(leases, _)| leases)
}

impl Database {
    /// Owes these calls, due now.
    pub(crate) async fn owe(&self, calls: &[&str], certain: bool) {
        announce(&mut *self.connection().await, calls, certain).await.unwrap();
    }

    pub(crate) async fn lease(&self, most: u32) -> Vec<Lease> {
        try_lease(&mut *self.connection().await, most).await.unwrap()
    }

    /// Leases the one call that is due.
    pub(crate) async fn lease_one(&self) -> Lease {
        let mut leases = self.lease(10).await;
        assert_eq!(leases.len(), 1, "{leases:?}");
        leases.remove(0)
    }

    /// Ends a lease.
    pub(crate) async fn end(&self, outcome: FetchOutcome) -> StoredOutcomes {
        queue::store(&mut *self.connection().await, &[outcome]).await.unwrap()
    }

    /// How many calls a failure postponed.
    pub(crate) async fn postpone(&self, failed: Failed) -> u64 {
        self.end(FetchOutcome::Fail(failed)).await.postponed
    }

    pub(crate) async fn bury(&self, failed: Failed) -> u64 {
        self.end(FetchOutcome::Fail(failed)).await.buried
    }

    pub(crate) async fn close(&self, failed: Failed) -> u64 {
        self.end(FetchOutcome::Fail(failed)).await.closed
    }

    pub(crate) async fn revive(&self, call: &str) -> u64 {
        dead_letter::revive(&mut *self.connection().await, &[call]).await.unwrap()
    }

    pub(crate) async fn upsert(&self, group: &[&Incoming]) -> Upserted {
        let mut transaction = self.pool.begin().await.unwrap();
        let done = cdr::upsert(&mut transaction, group).await.unwrap();
        transaction.commit().await.unwrap();
        done
    }

    /// The row of the queue as JSON without the columns named; empty if there is none.
    pub(crate) async fn owed_row(&self, call: &str, without: &[&str]) -> String {
        let without = without.join(",");
        self.text(&format!(
            "select (to_jsonb(q) - '{{{without}}}'::text[])::text from vobiz.cdr_queue q where call_id = '{call}'"
        ))
        .await
    }
}

pub(crate) fn failed(lease: Lease, class: ErrorClass, then: Then) -> Failed {
    Failed { lease, class, error: format!("said {}", class.as_str()), body: None, then }
}

/// A failure that waits until now.
pub(crate) fn waiting(lease: Lease, class: ErrorClass) -> Failed {
    failed(lease, class, Then::Wait(Duration::ZERO))
}

pub(crate) fn decode(body: &str) -> Cdr {
    match decode_single(body.as_bytes(), HomeCountry::INDIA).unwrap() {
        Single::Cdr(cdr) => *cdr,
        Single::NotYet(why) => panic!("{why}"),
    }
}

/// A CDR on its way into the tables.
pub(crate) fn incoming(cdr: Cdr, requested_at: DateTime<Utc>, complete: bool) -> Incoming {
    Incoming {
        content_hash: cdr.payload.content_hash(),
        listed_by: account(),
        origin: if complete { Origin::Callback } else { Origin::Sweep },
        complete,
        requested_at,
        attempts: i32::from(complete),
        announced_at: None,
        cdr: cdr.without_future(requested_at),
    }
}

/// A single record from its JSON text.
pub(crate) fn single(body: &str, requested_at: DateTime<Utc>) -> Incoming {
    incoming(decode(body), requested_at, true)
}

/// A row of a list from its JSON text.
pub(crate) fn listed(body: &str, requested_at: DateTime<Utc>) -> Incoming {
    incoming(decode(body), requested_at, false)
}

/// A small CDR of a call.
pub(crate) fn plain(call: &str, requested_at: DateTime<Utc>) -> Incoming {
    single(&format!(r#"{{"uuid":"{call}","billsec":1,"total_cost":0.30,"currency":"INR"}}"#), requested_at)
}
