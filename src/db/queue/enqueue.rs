//! Callback in: the raw log and the queue, written together, so a callback that is logged as owed is owed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::db::base::time::interval;
use crate::vobiz::{AccountId, CallId, Proof};

/// What became of a callback at the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackOutcome {
    /// It announced the end of a call, which is owed.
    Owed,
    /// It is kept, and nothing is to be done.
    Logged,
    /// It was answered 403; a sample is kept.
    Refused,
}

impl CallbackOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Owed => "owed",
            Self::Logged => "logged",
            Self::Refused => "refused",
        }
    }
}

/// A callback as it goes into the log.
#[derive(Debug, Clone)]
pub struct CallbackEntry {
    /// `UUIDv7` made at the endpoint.
    pub id: Uuid,
    /// Its event name.
    pub event: String,
    /// The call it talks about.
    pub call_id: Option<CallId>,
    /// The configured account it was attributed to.
    pub account_id: Option<AccountId>,
    /// What proved it.
    pub proof: Proof,
    /// What became of it.
    pub outcome: CallbackOutcome,
    /// Why, in words.
    pub note: Option<String>,
    /// Peer address.
    pub remote_address: Option<String>,
    /// Query string as sent.
    pub query: Option<String>,
    /// Body as sent.
    pub body: Bytes,
}

/// A call that a callback announces.
#[derive(Debug, Clone)]
pub struct Owed {
    /// The call.
    pub call_id: CallId,
    /// The account to ask.
    pub account_id: AccountId,
    /// A signature named the account.
    pub account_proven: bool,
    /// A proven hang-up announced it.
    pub certain: bool,
    /// SIP Call-ID of a trunk call.
    pub sip_call_id: Option<String>,
}

impl Owed {
    /// Joins two announcements of the same call: certainty is or-ed, a proven account replaces an unproven one.
    fn join(&mut self, other: &Self) {
        if other.account_proven && !self.account_proven {
            self.account_id = other.account_id.clone();
            self.account_proven = true;
        }
        if (other.certain && !self.certain && other.sip_call_id.is_some())
            || (self.sip_call_id.is_none() && (other.certain || !self.certain))
        {
            self.sip_call_id.clone_from(&other.sip_call_id);
        }
        self.certain |= other.certain;
    }
}

/// What the commit found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Calls that were not known before and are owed now.
    pub new: Vec<String>,
    /// Calls that were stored already and had no callback yet: see [`announce_stored`].
    pub stored_unannounced: Vec<String>,
    /// The session that committed.
    pub session: CommitSession,
}

/// The session of a commit as it was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommitSession {
    /// Its server process.
    pub pid: i32,
    /// The `synchronous_commit` that ruled in it; the commit itself waits for the disk anyway.
    pub synchronous_commit: String,
}

impl CommitSession {
    /// What was asked of the session at its beginning is in force.
    pub fn is_ours(&self) -> bool {
        matches!(self.synchronous_commit.as_str(), "on" | "remote_apply")
    }
}

/// Commits a group: all of it goes into the log, and the calls are owed, deduplicated and sorted by `call_id`. One statement,
/// so one transaction and one wait for the disk: what was asked of the session is asked again in the statement itself, since a pooler
/// may have given us another one since.
///
/// A call that is stored already is not owed again. A call that is owed already changes only by getting certain, or a
/// proven account, or the SIP Call-ID it lacked.
#[expect(clippy::too_many_lines, reason = "one statement, with a word by each of its parts")]
pub async fn commit(
    connection: &mut PgConnection,
    entries: &[&CallbackEntry],
    owed: &[&Owed],
    first_fetch_delay: Duration,
) -> Result<Committed, sqlx::Error> {
    let mut calls: BTreeMap<&CallId, Owed> = BTreeMap::new();
    for call in owed {
        calls.entry(&call.call_id).and_modify(|known| known.join(call)).or_insert_with(|| (*call).clone());
    }
    let call_ids: Vec<&str> = calls.values().map(|call| call.call_id.as_str()).collect();
    let accounts: Vec<&str> = calls.values().map(|call| call.account_id.as_str()).collect();
    let proven: Vec<bool> = calls.values().map(|call| call.account_proven).collect();
    let certain: Vec<bool> = calls.values().map(|call| call.certain).collect();
    let sip_call_ids: Vec<Option<&str>> = calls.values().map(|call| call.sip_call_id.as_deref()).collect();

    let ids: Vec<Uuid> = entries.iter().map(|entry| entry.id).collect();
    let events: Vec<&str> = entries.iter().map(|entry| entry.event.as_str()).collect();
    let entry_calls: Vec<Option<&str>> =
        entries.iter().map(|e| e.call_id.as_ref().map(CallId::as_str)).collect();
    let entry_accounts: Vec<Option<&str>> =
        entries.iter().map(|e| e.account_id.as_ref().map(AccountId::as_str)).collect();
    let proofs: Vec<&str> = entries.iter().map(|entry| entry.proof.as_str()).collect();
    let outcomes: Vec<&str> = entries.iter().map(|entry| entry.outcome.as_str()).collect();
    let notes: Vec<Option<&str>> = entries.iter().map(|entry| entry.note.as_deref()).collect();
    let remotes: Vec<Option<&str>> = entries.iter().map(|entry| entry.remote_address.as_deref()).collect();
    let queries: Vec<Option<&str>> = entries.iter().map(|entry| entry.query.as_deref()).collect();
    let bodies: Vec<&[u8]> = entries.iter().map(|entry| entry.body.as_ref()).collect();

    let rows = sqlx::query!(
        r#"with session as (
             -- Read, then set for this transaction: what is answered 200 must have been waited for.
             select pg_catalog.pg_backend_pid() as pid, found,
                    pg_catalog.set_config('synchronous_commit', case found when 'remote_apply' then found else 'on' end, true) as made
             from (select pg_catalog.current_setting('synchronous_commit') as found offset 0) f
           ), logged as (
             insert into vobiz.callback
               (id, received_at, event, call_id, account_id, proof, outcome, note, remote_address, query, body)
             select l.id, vobiz.now(), l.event, l.call_id, l.account_id, l.proof, l.outcome, l.note, l.remote_address,
                    l.query, l.body
             from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::bytea[])
               as l (id, event, call_id, account_id, proof, outcome, note, remote_address, query, body)
           ), announced as (
             select n.*, c.call_id is not null as stored, c.first_callback_at is not null as told
             from unnest($11::text[], $12::text[], $13::bool[], $14::bool[], $15::text[])
               as n (call_id, account_id, account_proven, certain, sip_call_id)
             left join vobiz.cdr c on c.call_id = n.call_id
           ), owed as (
             insert into vobiz.cdr_queue as q
               (call_id, account_id, account_proven, certain, sip_call_id, enqueued_at, announced_at, due_at)
             select call_id, account_id, account_proven, certain, sip_call_id, vobiz.now(), vobiz.now(), vobiz.now() + $16
             from announced where not stored
             -- The lock order of the whole service.
             order by call_id
             on conflict (call_id) do update set
               certain = q.certain or excluded.certain,
               account_id = case when excluded.account_proven and not q.account_proven
                                 then excluded.account_id else q.account_id end,
               account_proven = q.account_proven or excluded.account_proven,
               -- A call that moves to its proven account starts anew there: no holder of a lease under the guessed one may
               -- end it, and no answer to the guessed one counts against it.
               (lease_id, due_at, failures, error_class, last_error, last_body, first_failed_at, first_not_yet_at, dead_at) = (
                 select lease_id, due_at, failures, error_class, last_error, last_body, first_failed_at, first_not_yet_at, dead_at
                 from (values
                   (true, nextval('vobiz.lease_id'), excluded.due_at, 0, null, null, null::bytea,
                    null::timestamptz, null::timestamptz, null::timestamptz),
                   (false, q.lease_id, q.due_at, q.failures, q.error_class, q.last_error, q.last_body,
                    q.first_failed_at, q.first_not_yet_at, q.dead_at)
                 ) as v (moves, lease_id, due_at, failures, error_class, last_error, last_body, first_failed_at,
                         first_not_yet_at, dead_at)
                 where moves = (excluded.account_proven and not q.account_proven and q.account_id <> excluded.account_id)),
               -- The SIP Call-ID can close a call: nothing unproven may say it of a certain one.
               sip_call_id = case when excluded.certain and not q.certain then coalesce(excluded.sip_call_id, q.sip_call_id)
                                  when excluded.certain or not q.certain then coalesce(q.sip_call_id, excluded.sip_call_id)
                                  else q.sip_call_id end,
               announced_at = coalesce(q.announced_at, excluded.announced_at)
             -- An ordinary repeat changes nothing and writes nothing.
             where (excluded.certain and not q.certain) or (excluded.account_proven and not q.account_proven)
                or (q.sip_call_id is null and excluded.sip_call_id is not null and (excluded.certain or not q.certain)) or q.announced_at is null
             returning q.call_id, q.xmax = 0 as fresh
           )
           select call_id as "call_id?", false as "stored!", null::int as "pid?", null::text as "synchronous_commit?"
           from owed where fresh
           union all
           select call_id, true, null, null from announced where stored and not told
           union all
           select null, false, pid, found from session where made is not null"#,
        &ids,
        &events as &[&str],
        &entry_calls as &[Option<&str>],
        &entry_accounts as &[Option<&str>],
        &proofs as &[&str],
        &outcomes as &[&str],
        &notes as &[Option<&str>],
        &remotes as &[Option<&str>],
        &queries as &[Option<&str>],
        &bodies as &[&[u8]],
        &call_ids as &[&str],
        &accounts as &[&str],
        &proven,
        &certain,
        &sip_call_ids as &[Option<&str>],
        interval(first_fetch_delay) as _,
    )
    .fetch_all(connection)
    .await?;
    let mut committed = Committed::default();
    for row in rows {
        match (row.call_id, row.stored) {
            (Some(call_id), true) => committed.stored_unannounced.push(call_id),
            (Some(call_id), false) => committed.new.push(call_id),
            (None, _) => {
                committed.session = CommitSession {
                    pid: row.pid.unwrap_or_default(),
                    synchronous_commit: row.synchronous_commit.unwrap_or_default(),
                };
            }
        }
    }
    Ok(committed)
}

/// Does what [`commit`] does and takes it back: whether Postgres would take it now.
pub async fn rehearse(
    connection: &mut PgConnection,
    entries: &[&CallbackEntry],
    owed: &[&Owed],
    first_fetch_delay: Duration,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    commit(&mut transaction, entries, owed, first_fetch_delay).await?;
    transaction.rollback().await
}

/// Commits a word that nobody reads: a transaction that waits for the disk, and for a synchronous standby where there is one, as
/// that of a callback does.
pub async fn probe(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select pg_catalog.pg_logical_emit_message(true, 'vobiz-cdr probe', '')::text as place,
                pg_catalog.set_config('synchronous_commit', case found when 'remote_apply' then found else 'on' end, true) as made
         from (select pg_catalog.current_setting('synchronous_commit') as found offset 0) f"
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

/// Notes on stored CDRs that a callback has come after all (a sweep was faster). Apart from [`commit`], because rows of `cdr`
/// are locked before rows of `cdr_queue`; if it gets lost, the callback log still knows.
pub async fn announce_stored(connection: &mut PgConnection, call_ids: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update vobiz.cdr c set first_callback_at = vobiz.now()
         from (select call_id from vobiz.cdr where call_id = any($1) order by call_id for no key update) l
         where c.call_id = l.call_id and c.first_callback_at is null",
        call_ids
    )
    .execute(connection)
    .await?;
    Ok(())
}
