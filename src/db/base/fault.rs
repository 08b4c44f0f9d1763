//! What a failure of Postgres means for the work at hand.

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
