//! The settings that all readers and replicas share.

use sqlx::{Connection, PgConnection};
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
    /// Another process was started with another word.
    #[error(
        "{name}={ours} differs from what another start of ours has said ({theirs}): every process must be told the same. Give all of them \
         {theirs}; or, if {ours} is right, give it to all of them, and say it here: update vobiz.setting set {column} = '{ours}'"
    )]
    SaidOtherwise {
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

/// Compares what this process was told with the database; returns the home country. On a database that holds no call yet, owes none
/// and has no other process, the settings are written instead, and the log says so: an operator has to name them first. They are written
/// once: of two that start together with different words, one is refused.
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
    if billing_zone.is_none() && home_country.is_none() {
        let row = sqlx::query!("select home_country from vobiz.setting").fetch_one(connection).await?;
        return Ok(row.home_country);
    }
    let mut transaction = connection.begin().await?;
    let row = sqlx::query!(
        "select billing_zone, home_country, billing_zone_said, home_country_said from vobiz.setting for update"
    )
    .fetch_one(&mut *transaction)
    .await?;
    let differing: Vec<Differing> = [
        ("CDR_BILLING_ZONE", "billing_zone", billing_zone, &row.billing_zone, row.billing_zone_said),
        ("CDR_HOME_COUNTRY", "home_country", home_country, &row.home_country, row.home_country_said),
    ]
    .into_iter()
    .filter_map(|(name, column, ours, theirs, said)| {
        let ours = ours.filter(|ours| *ours != theirs)?.to_owned();
        Some(Differing { name, column, ours, theirs: theirs.clone(), said })
    })
    .collect();
    if let Some(first) = differing.iter().find(|differing| differing.said).or(differing.first()) {
        refuse_if_used(&mut transaction, first.clone()).await?;
    }
    let says_more = (billing_zone.is_some() && !row.billing_zone_said)
        || (home_country.is_some() && !row.home_country_said);
    if says_more || !differing.is_empty() {
        sqlx::query!(
            "update vobiz.setting set
               billing_zone = coalesce($1::text, billing_zone), billing_zone_said = billing_zone_said or $1::text is not null,
               home_country = coalesce($2::text, home_country), home_country_said = home_country_said or $2::text is not null",
            billing_zone,
            home_country
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    for Differing { name, ours, theirs, .. } in differing {
        warn!(
            "{name}={ours} is written into the database, which had {theirs} and holds no call yet: it holds for all who read it"
        );
    }
    Ok(home_country.map_or(row.home_country, str::to_owned))
}

/// A setting that differs cannot be changed where calls, processes, or the word of another start rest on it.
async fn refuse_if_used(connection: &mut PgConnection, first: Differing) -> Result<(), SettingError> {
    let used = sqlx::query!(
        r#"select exists (select from vobiz.cdr) as "calls!",
                  (select count(*) from vobiz.cdr_queue where dead_at is null) as "owed!",
                  -- These sessions a process opens once it works.
                  (select count(*) from pg_catalog.pg_stat_activity
                   where datname = current_database() and application_name in ('vobiz-cdr receive', 'vobiz-cdr ops')) as "sessions!""#
    )
    .fetch_one(connection)
    .await?;
    let Differing { name, column, ours, theirs, said } = first;
    if used.calls {
        return Err(SettingError::Differs { name, column, ours, theirs });
    }
    if said {
        return Err(SettingError::SaidOtherwise { name, column, ours, theirs });
    }
    let why = match (used.owed, used.sessions) {
        (0, 0) => None,
        (0, _) => Some("another process of ours works on it".to_owned()),
        (1, _) => Some("a call is owed there".to_owned()),
        (owed, _) => Some(format!("{owed} calls are owed there")),
    };
    match why {
        Some(why) => Err(SettingError::InUse { name, column, ours, theirs, why }),
        None => Ok(()),
    }
}

/// A setting of this process that differs from the database.
#[derive(Clone)]
struct Differing {
    name: &'static str,
    column: &'static str,
    ours: String,
    theirs: String,
    /// Theirs is the word of another start.
    said: bool,
}
