//! What a failure of Postgres means for the work at hand, and what helps against it.

use sqlx::postgres::PgDatabaseError;

/// What a failure of Postgres means for the work at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Serialisation failure or deadlock: the same again will do.
    Retry,
    /// SQLSTATE class 22, 23 or 54: this data will never be taken; whatever else was in the group may be.
    Data,
    /// Everything else (Postgres away, disk full, no permission): our fault, it costs the calls nothing.
    Ours,
}

/// What helps at once against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The session is to blame, and would say the same each time; the others may be well.
    NewConnection,
    /// The same of each session that is open.
    NewConnections,
    /// No partition takes the row.
    Partition,
}

/// What helps at once against a failure; nothing, most of the time. Nothing of the failed statement was done then.
pub(super) fn remedy(error: &sqlx::Error) -> Option<Remedy> {
    if let sqlx::Error::Io(error) = error {
        // The statement could not even be sent. (Whether the other sessions live is asked before they are used.)
        return (error.kind() == std::io::ErrorKind::BrokenPipe).then_some(Remedy::NewConnection);
    }
    let error = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    match error.code() {
        // A kept plan that no longer fits its table. (Of other causes this one means what it says: not supported.)
        "0A000" if error.routine() == Some("RevalidateCachedQuery") => Some(Remedy::NewConnections),
        // A server that was the primary when the session began, or a session that was left read only.
        "25006"
        // Prepared statements that the other side does not have, or has already.
        | "26000" | "42P05"
        // The server has crashed, or starts.
        | "57P02" | "57P03" => Some(Remedy::NewConnections),
        // The session was left amid a transaction, or was ended: by a person, a limit of time, or a server that goes down.
        "25001" | "25P01" | "25P02" | "25P03" | "57P01" | "57P05" => Some(Remedy::NewConnection),
        // Prepared statements of that name that are other ones. (A pooler gives this code to broken connections, too, behind which a
        // statement may be done.)
        "08P01" if error.routine() == Some("exec_bind_message") => Some(Remedy::NewConnection),
        "23514" if error.constraint().is_none() => Some(Remedy::Partition),
        _ => None,
    }
}

/// Whether an answer looks like one to a session that is not ours, as a pooler gives that mixes sessions: prepared statements are not there,
/// are there already, or take and give something else.
pub(super) fn is_foreign_answer(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("26000" | "42P05" | "08P01")),
        sqlx::Error::Protocol(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnIndexOutOfBounds { .. }
        | sqlx::Error::Decode(_) => true,
        _ => false,
    }
}

/// Whose fault a failure is, by its SQLSTATE.
pub fn fault(error: &sqlx::Error) -> Fault {
    if matches!(error, sqlx::Error::Encode(_)) {
        return Fault::Data;
    }
    let database = error.as_database_error();
    let code = database.and_then(sqlx::error::DatabaseError::code);
    let constraint = database.and_then(sqlx::error::DatabaseError::constraint);
    match code.as_deref() {
        Some("40001" | "40P01") => Fault::Retry,
        // A missing partition is reported as a violated check without a name (the words depend on lc_messages): our fault.
        Some("23514") if constraint.is_none() => Fault::Ours,
        Some(code) if matches!(code.get(..2), Some("22" | "23" | "54")) => Fault::Data,
        _ => Fault::Ours,
    }
}
