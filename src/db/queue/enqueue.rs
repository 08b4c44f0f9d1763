//! Callback in: the raw log and the queue, written together, so a callback that is logged as owed is owed.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use sqlx::PgConnection;
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
    /// Hashes of the nonces that it was signed with: see [`super::nonce`].
    pub nonces: Vec<Uuid>,
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
#[expect(clippy::struct_excessive_bools, reason = "columns of one row, each true or false by itself")]
pub struct Owed {
    /// The call.
    pub call_id: CallId,
    /// The account to ask.
    pub account_id: AccountId,
    /// A signature named the account, or a secret of its own.
    pub account_proven: bool,
    /// Another account that has proved the call to be its own: both are asked.
    pub other_account: Option<AccountId>,
    /// A proven hang-up announced it.
    pub certain: bool,
    /// What proved it is a secret alone, which proves any call to whoever knows it.
    pub by_secret: bool,
    /// It is a further word that the call is over, not a repeat: a call that waits for its record is asked for again soon.
    pub hurries: bool,
    /// SIP Call-ID of a trunk call.
    pub sip_call_id: Option<String>,
}

impl Owed {
    /// Joins two announcements of the same call, as [`commit`] joins one with what is owed already: certainty is or-ed, a proven account
    /// replaces an unproven one, and where two are proven both are asked.
    fn join(&mut self, other: &Self) {
        if self.account_id == other.account_id {
            self.account_proven |= other.account_proven;
        } else if other.account_proven {
            let (mine, its) = (self.account_id.is_sub_account(), other.account_id.is_sub_account());
            if (!self.account_proven && (mine || !its)) || (mine && !its) {
                let before = std::mem::replace(&mut self.account_id, other.account_id.clone());
                if self.account_proven {
                    self.other_account = Some(before);
                }
                self.account_proven = true;
                self.other_account.take_if(|account| *account == self.account_id);
            } else {
                self.other_account.get_or_insert_with(|| other.account_id.clone());
            }
        }
        self.by_secret = if other.certain && self.certain {
            self.by_secret && other.by_secret
        } else {
            self.by_secret || other.by_secret
        };
        if (other.certain && !self.certain && other.sip_call_id.is_some())
            || (self.sip_call_id.is_none() && (other.certain || !self.certain))
        {
            self.sip_call_id.clone_from(&other.sip_call_id);
        }
        self.certain |= other.certain;
        self.hurries |= other.hurries;
    }
}

/// What the commit found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Calls that were not known before and are owed now.
    pub new: Vec<String>,
    /// Calls that were stored already and had no callback yet: see [`announce_stored`].
    pub stored_unannounced: Vec<String>,
    /// Callbacks that were not committed, because their nonce had come with another call: see [`super::nonce`].
    pub replayed: Vec<Uuid>,
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
/// proven account (a second one beside the first), or the SIP Call-ID it lacked, and by falling due
/// sooner, where it waits for its record and this is a further hang-up.
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
    let hurrying: Vec<&str> =
        calls.values().filter(|call| call.hurries).map(|call| call.call_id.as_str()).collect();
    let by_secret: Vec<bool> = calls.values().map(|call| call.by_secret).collect();
    let other_accounts: Vec<Option<&str>> =
        calls.values().map(|call| call.other_account.as_ref().map(AccountId::as_str)).collect();
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
             from unnest($11::text[], $12::text[], $13::bool[], $14::bool[], $15::text[], $17::bool[], $18::text[])
               as n (call_id, account_id, account_proven, certain, sip_call_id, by_secret, other_account_id)
             left join vobiz.cdr c on c.call_id = n.call_id
           ), owed as (
             insert into vobiz.cdr_queue as q
               (call_id, account_id, account_proven, certain, by_secret, other_account_id, sip_call_id, enqueued_at,
                announced_at, due_at)
             select call_id, account_id, account_proven, certain, by_secret, other_account_id, sip_call_id, vobiz.now(),
                    vobiz.now(), vobiz.now() + $16
             from announced where not stored
             -- The lock order of the whole service.
             order by call_id
             on conflict (call_id) do update set
               certain = q.certain or excluded.certain,
               by_secret = case when excluded.certain and not q.certain then excluded.by_secret
                                when excluded.certain then q.by_secret and excluded.by_secret else q.by_secret end,
               (account_id, account_proven, other_account_id, lease_id, due_at, failures, error_class, last_error, last_body,
                first_failed_at, first_not_yet_at, dead_at, hurried) = (
                 select account_id, account_proven, other_account_id, lease_id, due_at, failures, error_class, last_error, last_body,
                        first_failed_at, first_not_yet_at, dead_at, hurried
                 from (select coalesce(excluded.call_id = any ($19) and q.error_class = 'not_yet' and q.dead_at is null and q.hurried < 2
                                       and q.due_at > excluded.due_at, false) as hurries) h
                 cross join lateral (values
                   -- A call that moves to its proven account starts anew there: no holder of a lease under the other one may
                   -- end it, and no answer to the other one counts against it.
                   ('moves', excluded.account_id, true,
                    case when q.account_proven then q.account_id else nullif(q.other_account_id, excluded.account_id) end,
                    nextval('vobiz.lease_id'), excluded.due_at, 0, null, null, null::bytea,
                    null::timestamptz, null::timestamptz, null::timestamptz, q.hurried),
                   ('stays', q.account_id,
                    q.account_proven or (excluded.account_proven and excluded.account_id = q.account_id),
                    coalesce(q.other_account_id,
                             case when excluded.account_proven then nullif(excluded.account_id, q.account_id) end,
                             nullif(excluded.other_account_id, q.account_id)),
                    -- A hang-up that came early, or was replayed, has made it wait: at its end it is asked for after the first delay,
                    -- whoever holds a lease from before.
                    case when h.hurries then nextval('vobiz.lease_id') else q.lease_id end,
                    case when h.hurries then excluded.due_at else q.due_at end,
                    case when h.hurries then 1 else q.failures end, q.error_class, q.last_error, q.last_body,
                    q.first_failed_at, q.first_not_yet_at, q.dead_at, (q.hurried + h.hurries::int)::smallint)
                 ) as v (what, account_id, account_proven, other_account_id, lease_id, due_at, failures, error_class, last_error,
                         last_body, first_failed_at, first_not_yet_at, dead_at, hurried)
                 where what = case
                   when excluded.account_proven and excluded.account_id not in (q.account_id, coalesce(q.other_account_id, ''))
                    -- A guess gives way to a proof, and a sub-account to a main account: whose token is known to more people
                    -- takes no call away from it. Where neither gives way, both are asked.
                    and (not q.account_proven and (q.account_id like 'SA\_%' or excluded.account_id not like 'SA\_%')
                         or q.account_id like 'SA\_%' and excluded.account_id not like 'SA\_%')
                   then 'moves' else 'stays' end),
               -- The SIP Call-ID can close a call: nothing unproven may say it of a certain one.
               sip_call_id = case when excluded.certain and not q.certain then coalesce(excluded.sip_call_id, q.sip_call_id)
                                  when excluded.certain or not q.certain then coalesce(q.sip_call_id, excluded.sip_call_id)
                                  else q.sip_call_id end,
               announced_at = coalesce(q.announced_at, excluded.announced_at)
             -- An ordinary repeat changes nothing and writes nothing.
             where (excluded.certain and not q.certain) or (excluded.certain and q.by_secret and not excluded.by_secret)
                or (excluded.account_proven and not q.account_proven and excluded.account_id = q.account_id)
                or (excluded.account_proven and excluded.account_id not in (q.account_id, coalesce(q.other_account_id, ''))
                    and (q.other_account_id is null or not q.account_proven
                         or (q.account_id like 'SA\_%' and excluded.account_id not like 'SA\_%')))
                or (q.other_account_id is null and excluded.other_account_id <> q.account_id)
                or (excluded.call_id = any ($19) and q.error_class = 'not_yet' and q.dead_at is null and q.hurried < 2
                    and q.due_at > excluded.due_at)
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
        &by_secret,
        &other_accounts as &[Option<&str>],
        &hurrying as &[&str],
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
