//! CDRs and their revisions: upsert a group, and which of some calls are missing.
//!
//! The promise: a stored CDR never goes back in time (see [`version`]), no version of it is lost, and a group is
//! stored as a whole or not at all, in the caller's transaction.

mod columns;
mod differ;
pub mod overrule;
mod rebuild;
pub mod reparse;
mod revision;
pub mod version;
mod write;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::vobiz::{AccountId, CallId, Cdr, Payload};
use version::{Version, VersionDecision, VersionSide, decide};
use write::OnConflict;

/// Who brought a CDR first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A callback announced it.
    Callback,
    /// A sweep or the check of a day found it in the list.
    Sweep,
    /// A backfill found it.
    Backfill,
    /// An operator asked for its day.
    Manual,
}

impl Origin {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Sweep => "sweep",
            Self::Backfill => "backfill",
            Self::Manual => "manual",
        }
    }
}

/// A CDR on its way into the tables.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The CDR.
    pub cdr: Cdr,
    /// SHA-256 of its content.
    pub content_hash: [u8; 32],
    /// The configured account that was asked.
    pub listed_by: AccountId,
    /// Who brought it.
    pub origin: Origin,
    /// It is a single record, in which an absent key means null; false for a row of a list.
    pub complete: bool,
    /// When it was asked for, by the clock of Postgres.
    pub requested_at: DateTime<Utc>,
    /// Fetches it took.
    pub attempts: i32,
    /// When its first callback was committed.
    pub announced_at: Option<DateTime<Utc>>,
}

impl Incoming {
    /// A CDR that `listed_by` showed when asked at `requested_at`; no callback and no fetch counted yet. A time in it that lay in
    /// the future then is none.
    pub fn new(
        cdr: Cdr,
        listed_by: &AccountId,
        origin: Origin,
        complete: bool,
        requested_at: DateTime<Utc>,
    ) -> Self {
        Self {
            content_hash: cdr.payload.content_hash(),
            listed_by: listed_by.clone(),
            origin,
            complete,
            requested_at,
            attempts: 0,
            announced_at: None,
            cdr: cdr.without_future(requested_at),
        }
    }

    /// The same, brought by the fetch of an owed call: so many requests, and the first callback.
    #[must_use]
    pub fn fetched(self, attempts: i32, announced_at: Option<DateTime<Utc>>) -> Self {
        Self { attempts, announced_at, ..self }
    }

    /// The account that owns the call: as the CDR says, else the one that was asked.
    pub fn account_id(&self) -> &AccountId {
        self.cdr.account_id.as_ref().unwrap_or(&self.listed_by)
    }

    /// A sub-account's own list or record of its own call.
    fn is_of_sub_account_itself(&self) -> bool {
        self.account_id() == &self.listed_by && self.listed_by.as_str().starts_with("SA_")
    }

    /// The same as a record of its own, beside one that has its uuid and another number.
    fn as_further_record(&self, vobiz_id: i64) -> Self {
        let mut row = self.clone();
        row.cdr = row.cdr.as_further_record(vobiz_id);
        row
    }

    fn version(&self) -> Version {
        Version {
            by_owner: self.is_of_sub_account_itself(),
            updated_at: self.cdr.fields.updated_at,
            fetched_at: self.requested_at,
            content_hash: self.content_hash,
        }
    }
}

/// What a group did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upserted {
    /// Calls stored for the first time.
    pub new: usize,
    /// Calls whose row was replaced by a newer version.
    pub revised: usize,
    /// Versions that were known, or older than the row.
    pub unchanged: usize,
}

/// Stores a group. The rows of `cdr` are locked in the order of `call_id`, whether they are there already or not; lock rows of
/// `cdr_queue` only afterwards.
///
/// Two records may have one uuid, and are told apart by their numbers (`id`): the first that comes has the uuid as its key, a further
/// one [`CallId::of_further_record`]. The row of the uuid is locked whenever one of a further record is, and before it.
pub async fn upsert(connection: &mut PgConnection, group: &[&Incoming]) -> Result<Upserted, sqlx::Error> {
    let mut done = Upserted::default();
    let further = upsert_in_rounds(connection, group.to_vec(), &mut done).await?;
    let further: Vec<Incoming> =
        further.into_iter().map(|(row, vobiz_id)| row.as_further_record(vobiz_id)).collect();
    // Their keys hold their numbers, so none of them is another record than the one that is stored.
    upsert_in_rounds(connection, further.iter().collect(), &mut done).await?;
    Ok(done)
}

/// A group may hold a call twice (a lease that ran out, a list that shifted between two pages): one round for each time. Returns the
/// further records, which it leaves.
async fn upsert_in_rounds<'a>(
    connection: &mut PgConnection,
    mut group: Vec<&'a Incoming>,
    done: &mut Upserted,
) -> Result<Vec<(&'a Incoming, i64)>, sqlx::Error> {
    group.sort_by(|a, b| a.cdr.call_id.cmp(&b.cdr.call_id));
    let mut further = Vec::new();
    while !group.is_empty() {
        let mut seen = BTreeSet::new();
        let (round, rest): (Vec<&Incoming>, Vec<&Incoming>) =
            group.into_iter().partition(|row| seen.insert(&row.cdr.call_id));
        further.extend(upsert_distinct(connection, &round, done).await?);
        group = rest;
    }
    Ok(further)
}

async fn upsert_distinct<'a>(
    connection: &mut PgConnection,
    rows: &[&'a Incoming],
    done: &mut Upserted,
) -> Result<Vec<(&'a Incoming, i64)>, sqlx::Error> {
    let new: BTreeSet<String> = write::write(connection, rows, OnConflict::Lock).await?.into_iter().collect();
    let (new, known): (Vec<&Incoming>, Vec<&Incoming>) =
        rows.iter().copied().partition(|row| new.contains(row.cdr.call_id.as_str()));
    done.new += new.len();
    append_new(connection, &new).await?;
    let mut further = Vec::new();
    if known.is_empty() {
        return Ok(further);
    }

    let stored = revision::stored(connection, &known).await?;
    let (mut replace, mut merge, mut confirm, mut kept) = (vec![], vec![], vec![], vec![]);
    let (mut incomplete, mut escaped) = (vec![], vec![]);
    for row in known {
        // The row was locked a moment ago. If it were gone, paying the call's debt would lose it.
        let stored = stored.get(row.cdr.call_id.as_str()).ok_or(sqlx::Error::RowNotFound)?;
        if let (Some(ours), Some(its)) = (stored.vobiz_id, row.cdr.fields.vobiz_id)
            && ours != its
        {
            further.push((row, its));
            continue;
        }
        match decide_row(stored, row) {
            VersionDecision::Known => confirm.push(row),
            VersionDecision::Older => {
                if !revision::contains(connection, row).await? {
                    kept.push((row, stored.revision + 1));
                    if stored.payload.is_some() && !stored.complete {
                        incomplete.push((row, stored));
                    }
                }
            }
            VersionDecision::Replace => {
                kept.push((row, stored.revision + 1));
                replace.push(row);
            }
            VersionDecision::Merge => {
                kept.push((row, stored.revision + 1));
                merge.push(row);
                let has_escapes = |payload: &Payload| payload.text().contains("\\u");
                if has_escapes(&row.cdr.payload) || stored.payload.as_ref().is_some_and(has_escapes) {
                    escaped.push((row, stored));
                }
            }
        }
    }
    done.revised += replace.len() + merge.len();
    done.unchanged += rows.len() - new.len() - further.len() - replace.len() - merge.len();
    revision::append(connection, &kept).await?;
    let older: Vec<&str> = kept
        .iter()
        .map(|(row, _)| *row)
        .filter(|row| !replace.iter().chain(&merge).any(|written| std::ptr::eq(*written, *row)))
        .map(|row| row.cdr.call_id.as_str())
        .collect();
    revision::count(connection, &older).await?;
    for (row, stored) in incomplete {
        rebuild::rebuild(connection, &row.cdr.call_id, stored).await?;
    }
    // A version that does not say the number of its record is of that record all the same.
    let numbered: Vec<Cow<'_, Incoming>> = replace
        .into_iter()
        .map(|row| match stored.get(row.cdr.call_id.as_str()).and_then(|stored| stored.vobiz_id) {
            Some(vobiz_id) if row.cdr.fields.vobiz_id.is_none() => {
                let mut row = row.clone();
                row.cdr.fields.vobiz_id = Some(vobiz_id);
                Cow::Owned(row)
            }
            _ => Cow::Borrowed(row),
        })
        .collect();
    let replace = numbered.iter().map(Cow::as_ref).collect();
    for (rows, how) in [(replace, OnConflict::Replace), (merge, OnConflict::Merge)] {
        if !rows.is_empty() {
            write::write(connection, &rows, how).await?;
        }
    }
    for (row, stored) in escaped {
        rebuild::rebuild(connection, &row.cdr.call_id, &stored.followed_by(row)).await?;
    }
    revision::confirm(connection, &confirm).await?;
    Ok(further)
}

/// Keeps the first versions of new calls. One that was deleted and comes again goes on counting where it was.
async fn append_new(connection: &mut PgConnection, new: &[&Incoming]) -> Result<(), sqlx::Error> {
    if new.is_empty() {
        return Ok(());
    }
    let before = revision::left_behind(connection, new).await?;
    let number = |row: &Incoming| before.get(row.cdr.call_id.as_str()).map_or(1, |last| last + 1);
    revision::append(connection, &new.iter().map(|row| (*row, number(row))).collect::<Vec<_>>()).await?;
    for (call_id, last) in &before {
        revision::set(connection, call_id, last + 1).await?;
    }
    Ok(())
}

fn decide_row(stored: &revision::Stored, row: &Incoming) -> VersionDecision {
    let incoming = row.version();
    let empty = Payload::new(String::from("{}"));
    let decision = decide(
        VersionSide {
            version: &stored.version,
            // Its revision may have been pruned: then nothing is known of what it said, and the order alone decides.
            payload: stored.payload.as_ref().unwrap_or(&empty),
            complete: stored.payload.is_none() || stored.complete,
        },
        VersionSide { version: &incoming, payload: &row.cdr.payload, complete: row.complete },
    );
    // It says nothing else but whose the call is: of lists that name nobody, each account takes the calls for its own.
    let moves = incoming.by_owner && !stored.version.by_owner && stored.owner != row.account_id().as_str();
    match decision {
        VersionDecision::Known if moves && row.complete => VersionDecision::Replace,
        VersionDecision::Known if moves => VersionDecision::Merge,
        decision => decision,
    }
}

/// Locks the rows of some calls that are stored, sorted by `call_id`.
pub(in crate::db) async fn lock(connection: &mut PgConnection, call_ids: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select call_id from vobiz.cdr where call_id = any($1) order by call_id for no key update",
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(())
}

/// Which of these calls are not stored.
pub async fn missing(
    connection: &mut PgConnection,
    call_ids: &[CallId],
) -> Result<BTreeSet<String>, sqlx::Error> {
    let call_ids: Vec<&str> = call_ids.iter().map(CallId::as_str).collect();
    let rows = sqlx::query_scalar!(
        r#"select n.call_id as "call_id!" from unnest($1::text[]) as n (call_id)
           where not exists (select from vobiz.cdr c where c.call_id = n.call_id)"#,
        &call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

type StoredByCall = BTreeMap<String, revision::Stored>;
