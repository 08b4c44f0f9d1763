//! A login that Postgres refuses: whoever can read the URL anew is told.

use tokio::sync::Notify;

/// One for the process: the pools of a service have one URL.
static REFUSED: Notify = Notify::const_new();

/// Tells of a failure, if it is a refused login: the password was changed (28P01), or nobody of that name may come in (28000).
pub(super) fn note(error: &sqlx::Error) {
    if is_refused_login(error) {
        REFUSED.notify_waiters();
    }
}

/// Whether Postgres refuses whom `DATABASE_URL` names.
pub fn is_refused_login(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("28P01" | "28000"))
}

/// Waits until a login is refused.
pub async fn refused() {
    REFUSED.notified().await;
}
