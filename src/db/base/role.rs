//! The roles that may read or serve: made once for the whole cluster, their rights in this database renewed each time. What
//! those are says `migrations/repeatable/grants.sql`.

use sqlx::{Connection, PgConnection};

/// The roles.
pub const ROLES: [&str; 3] = ["vobiz_masked", "vobiz_finance", "vobiz_app"];

/// Roles that are not there yet.
pub async fn missing(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select name as "name!" from unnest($1::text[]) name
           where not exists (select from pg_catalog.pg_roles r where r.rolname = name)"#,
        &ROLES as &[&str]
    )
    .fetch_all(connection)
    .await
}

/// Whether this user may create roles.
pub async fn may_create(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select (rolsuper or rolcreaterole) as "may!" from pg_catalog.pg_roles where rolname = current_user"#
    )
    .fetch_one(connection)
    .await
}

/// Makes those that are missing. They may log in once an operator gives them a password.
pub async fn create(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "do $$
         declare
           role text;
         begin
           foreach role in array array['vobiz_masked', 'vobiz_finance', 'vobiz_app'] loop
             begin
               if not exists (select from pg_catalog.pg_roles where rolname = role) then
                 execute format('create role %I login', role);
               end if;
             exception
               -- Another database of the cluster was quicker.
               when duplicate_object or unique_violation then null;
             end;
           end loop;
         end $$"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives the roles what they need in this database, and takes away what an earlier version gave too much:
/// `migrations/repeatable/grants.sql`.
pub async fn grant(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // This binary does not know what the newer one grants.
    if super::migration::text_is_ahead(connection).await? {
        return Err(sqlx::Error::Configuration(
            "the grants in force are those of a newer vobiz-cdr: run `migrate roles` of that one".into(),
        ));
    }
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(super::migration::grants()).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// A reader without limits.
#[derive(Debug, Clone)]
pub struct Unlimited {
    /// Name of the role.
    pub name: String,
    /// What a user with more rights has to run.
    pub cure: String,
}

/// Who reads as one of the reading roles, also by being a member of one, and has no limits in this database: of its own, or
/// in all of them. What an operator has chosen is left alone.
async fn unlimited(connection: &mut PgConnection) -> Result<Vec<Unlimited>, sqlx::Error> {
    sqlx::query_as!(
        Unlimited,
        r#"select r.rolname as "name!",
                  format('alter role %1$I in database %2$I set statement_timeout = ''120s''; '
                         'alter role %1$I in database %2$I set idle_in_transaction_session_timeout = ''60s''; '
                         'alter role %1$I in database %2$I set default_transaction_read_only = on;',
                         r.rolname, current_database()) as "cure!"
           from pg_catalog.pg_roles r
           where r.rolcanlogin and not r.rolsuper and r.rolname <> current_user
             and (pg_has_role(r.oid, 'vobiz_masked', 'usage') or pg_has_role(r.oid, 'vobiz_finance', 'usage'))
             and not pg_has_role(r.oid, 'vobiz_app', 'usage')
             and (select count(distinct split_part(c.setting, '=', 1))
                  from pg_catalog.pg_db_role_setting s cross join unnest(s.setconfig) as c (setting)
                  where s.setrole = r.oid
                    and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))
                    and split_part(c.setting, '=', 1) in ('statement_timeout', 'idle_in_transaction_session_timeout')) < 2
           order by 1"#
    )
    .fetch_all(connection)
    .await
}

/// Sets limits for readers without them, as far as this user may; returns who is left.
pub async fn limit_readers(connection: &mut PgConnection) -> Result<Vec<Unlimited>, sqlx::Error> {
    for reader in unlimited(&mut *connection).await? {
        // A block takes no parameters.
        sqlx::query!("select set_config('vobiz.reader', $1, false) as reader", reader.name)
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query!(
            "do $$
             declare
               words constant text := format('alter role %I in database %I set ', current_setting('vobiz.reader'), current_database());
             begin
               execute words || 'statement_timeout = ''120s''';
               execute words || 'idle_in_transaction_session_timeout = ''60s''';
               execute words || 'default_transaction_read_only = on';
             exception
               -- Or the role was dropped meanwhile.
               when insufficient_privilege or undefined_object then null;
             end $$"
        )
        .execute(&mut *connection)
        .await?;
    }
    unlimited(connection).await
}
