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

/// Who reads as one of the reading roles, also by being a member of one, and has not all limits in this database: of its own, or
/// in all of them. What an operator has chosen is left alone. They are against accidents: a reader may set others in its session.
async fn unlimited(connection: &mut PgConnection) -> Result<Vec<Unlimited>, sqlx::Error> {
    sqlx::query_as!(
        Unlimited,
        r#"select r.rolname as "name!",
                  string_agg(format('alter role %I in database %I set %s = %L;', r.rolname, current_database(), l.name, l.value),
                             ' ' order by l.place) as "cure!"
           from pg_catalog.pg_roles r
           cross join (values (1, 'statement_timeout', '120s'), (2, 'idle_in_transaction_session_timeout', '60s'),
                              -- A session that was forgotten keeps its place, and whatever it has locked.
                              (3, 'idle_session_timeout', '30min'), (4, 'default_transaction_read_only', 'on')) as l (place, name, value)
           where r.rolcanlogin and not r.rolsuper and r.rolname <> current_user
             and (pg_has_role(r.oid, 'vobiz_masked', 'usage') or pg_has_role(r.oid, 'vobiz_finance', 'usage'))
             and not pg_has_role(r.oid, 'vobiz_app', 'usage')
             and not exists (
               select from pg_catalog.pg_db_role_setting s cross join unnest(s.setconfig) as c (setting)
               where s.setrole = r.oid
                 and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))
                 and split_part(c.setting, '=', 1) = l.name)
           group by r.rolname
           order by 1"#
    )
    .fetch_all(connection)
    .await
}

/// Sets limits for readers without them, as far as this user may; returns who is left.
pub async fn limit_readers(connection: &mut PgConnection) -> Result<Vec<Unlimited>, sqlx::Error> {
    for reader in unlimited(&mut *connection).await? {
        // A block takes no parameters.
        sqlx::query!("select set_config('vobiz.cure', $1, false) as cure", reader.cure)
            .fetch_one(&mut *connection)
            .await?;
        sqlx::query!(
            "do $$
             begin
               execute current_setting('vobiz.cure');
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

/// With what every login may still fill the disk, because the user who migrates may not take it away: what one with more rights has to
/// run; none if nothing is left.
pub async fn left_to_public(connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "select nullif(concat_ws(' ',
           case when has_database_privilege('public', current_database(), 'temporary') then
             format('revoke temporary on database %1$I from public; grant temporary on database %1$I to vobiz_finance, vobiz_app;',
                    current_database()) end,
           (select string_agg(format('revoke execute on function pg_catalog.%s from public;', maker), ' ' order by maker)
            from unnest(array['lo_create(oid)', 'lo_creat(integer)', 'lo_from_bytea(oid, bytea)']) maker
            where has_function_privilege('public', 'pg_catalog.' || maker, 'execute'))), '')"
    )
    .fetch_one(connection)
    .await
}
