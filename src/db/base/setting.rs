//! The settings that all readers and replicas share.

use sqlx::PgConnection;
use tracing::warn;

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
    /// The database holds no call yet, and is not nobody's any more.
    #[error(
        "{name}={ours} differs from the database ({theirs}), and {why}: it cannot be changed on the way. Unset {name}, or stop the \
         other processes, let the owed calls be fetched, and say it for all: update vobiz.setting set {column} = '{ours}'"
    )]
    InUse {
        /// The environment variable.
        name: &'static str,
        /// The column of `vobiz.setting`.
        column: &'static str,
        /// What this process was told.
        ours: String,
        /// What the database says.
        theirs: String,
        /// Who uses it.
        why: String,
    },
    /// No such time zone.
    #[error("CDR_BILLING_ZONE={0} is no time zone that Postgres knows: write one such as Asia/Kolkata")]
    UnknownZone(String),
    /// Postgres said so.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Compares what this process was told with the database; returns the home country. On a database that holds no call yet, owes none
/// and has no other process, the settings are written instead, and the log says so: an operator has to name them first.
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
    let row = sqlx::query!("select billing_zone, home_country from vobiz.setting")
        .fetch_one(&mut *connection)
        .await?;
    let differing: Vec<Differing> = [
        ("CDR_BILLING_ZONE", "billing_zone", billing_zone, &row.billing_zone),
        ("CDR_HOME_COUNTRY", "home_country", home_country, &row.home_country),
    ]
    .into_iter()
    .filter_map(|(name, column, ours, theirs)| {
        let ours = ours.filter(|ours| *ours != theirs)?.to_owned();
        Some(Differing { name, column, ours, theirs: theirs.clone() })
    })
    .collect();
    let Some(first) = differing.first() else { return Ok(row.home_country) };
    let used = sqlx::query!(
        r#"select exists (select from vobiz.cdr) as "calls!",
                  (select count(*) from vobiz.cdr_queue where dead_at is null) as "owed!",
                  -- These sessions a process opens once it works.
                  (select count(*) from pg_catalog.pg_stat_activity
                   where datname = current_database() and application_name in ('vobiz-cdr receive', 'vobiz-cdr ops')) as "sessions!""#
    )
    .fetch_one(&mut *connection)
    .await?;
    let Differing { name, column, ours, theirs } = first.clone();
    if used.calls {
        return Err(SettingError::Differs { name, column, ours, theirs });
    }
    let why = match (used.owed, used.sessions) {
        (0, 0) => None,
        (0, _) => Some("another process of ours works on it".to_owned()),
        (1, _) => Some("a call is owed there".to_owned()),
        (owed, _) => Some(format!("{owed} calls are owed there")),
    };
    if let Some(why) = why {
        return Err(SettingError::InUse { name, column, ours, theirs, why });
    }
    sqlx::query!(
        "update vobiz.setting set billing_zone = coalesce($1::text, billing_zone), home_country = coalesce($2::text, home_country)",
        billing_zone,
        home_country
    )
    .execute(connection)
    .await?;
    for Differing { name, ours, theirs, .. } in differing {
        warn!(
            "{name}={ours} is written into the database, which had {theirs} and holds no call yet: it holds for all who read it"
        );
    }
    Ok(home_country.map_or(row.home_country, str::to_owned))
}

/// A setting of this process that differs from the database.
#[derive(Clone)]
struct Differing {
    name: &'static str,
    column: &'static str,
    ours: String,
    theirs: String,
}
