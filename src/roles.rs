//! `vobiz-cdr migrate roles`: the roles for analysts, finance and the service.

use anyhow::bail;
use sqlx::PgPool;
use tracing::{info, warn};
use vobiz_cdr::db::role::{self, ROLES};

use crate::Usage;

/// Makes them and gives them their rights; the same again changes nothing. False where something is left for somebody with more
/// rights.
pub(crate) async fn make(pool: &PgPool) -> anyhow::Result<bool> {
    let mut connection = pool.acquire().await?;
    vobiz_cdr::db::migration::check(&mut connection).await?;
    let missing = role::missing(&mut connection).await?;
    if !missing.is_empty() {
        if !role::may_create(&mut connection).await? {
            let words: Vec<String> =
                missing.iter().map(|name| format!("create role {name} login;")).collect();
            bail!(Usage(format!(
                "this user may not create roles. Let one who may (a superuser, or one with createrole) say\n    {}\nand then run \
                 `vobiz-cdr migrate roles` again",
                words.join(" ")
            )));
        }
        role::create(&mut connection).await?;
    }
    role::grant(&mut connection).await.map_err(|error| {
        let denied = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if denied.as_deref() == Some("42501") {
            anyhow::Error::new(Usage(format!(
                "this user may not give away what it does not own ({error}): run it as the owner of the schema vobiz, who ran \
                 `vobiz-cdr migrate apply`"
            )))
        } else {
            error.into()
        }
    })?;
    let unlimited = role::limit_readers(&mut connection).await?;
    info!(
        roles = ROLES.join(", "),
        "the roles have what they need; set a password: \\password vobiz_finance"
    );
    for reader in &unlimited {
        warn!("{} reads without limits. Let one who may say: {}", reader.name, reader.cure);
    }
    Ok(unlimited.is_empty())
}
