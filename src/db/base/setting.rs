//! The settings that all readers and replicas share.

use sqlx::PgConnection;

/// Why the settings of this process do not fit those of the database.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// A setting differs.
    #[error(
        "{name}={ours} differs from the database ({theirs}): every reader must see the same days and numbers. \
         Unset {name}, or change it for all: update vobiz.setting set {column} = '{ours}'"
    )]
    Differs {
        /// The environment variable.
        name: &'static str,
        /// The column of `vobiz.setting`.
        column: &'static str,
        /// What this process was told.
        ours: String,
        /// What the database says.
        theirs: String,
    },
    /// No such time zone.
    #[error("CDR_BILLING_ZONE={0} is no time zone that Postgres knows: write one such as Asia/Kolkata")]
    UnknownZone(String),
    /// Postgres said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Compares what this process was told with the database; returns the home country. On a database that holds no call yet the
/// settings are written instead: an operator has to name them first.
pub async fn check(
    connection: &mut PgConnection,
    billing_zone: Option<&str>,
    home_country: Option<&str>,
) -> Result<String, SettingError> {
    if let Some(zone) = billing_zone {
        let known = sqlx::query_scalar!(r#"select vobiz.is_zone($1) as "known!""#, zone)
            .fetch_one(&mut *connection)
            .await?;
        if !known {
            return Err(SettingError::UnknownZone(zone.to_owned()));
        }
    }
    sqlx::query!(
        "update vobiz.setting set billing_zone = coalesce($1::text, billing_zone), home_country = coalesce($2::text, home_country)
         where ($1::text is not null or $2::text is not null) and not exists (select from vobiz.cdr)",
        billing_zone,
        home_country
    )
    .execute(&mut *connection)
    .await?;
    let row =
        sqlx::query!("select billing_zone, home_country from vobiz.setting").fetch_one(connection).await?;
    let differs = |name, column, ours: Option<&str>, theirs: &str| match ours {
        Some(ours) if ours != theirs => {
            Err(SettingError::Differs { name, column, ours: ours.into(), theirs: theirs.into() })
        }
        _ => Ok(()),
    };
    differs("CDR_BILLING_ZONE", "billing_zone", billing_zone, &row.billing_zone)?;
    differs("CDR_HOME_COUNTRY", "home_country", home_country, &row.home_country)?;
    Ok(row.home_country)
}
