//! The log of what people did to the data, and of what the service overruled; who is at work. Triggers write into it as well: see its migration.

use sqlx::PgConnection;

/// Says who is at work, until the end of the transaction: what is written into the audit log names them.
pub async fn sign(connection: &mut PgConnection, by: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("select set_config('vobiz.by', $1, true) as set", by).fetch_one(connection).await?;
    Ok(())
}

/// Writes down which calls were rebuilt with other billed fields; `was` is what `vobiz.billed` said of each before, as JSON.
pub(in crate::db) async fn reparsed(
    connection: &mut PgConnection,
    call_ids: &[&str],
    was: &[&str],
) -> Result<(), sqlx::Error> {
    if call_ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into vobiz.audit (action, call_id, account_id, detail)
         select 'reparsed', c.call_id, c.account_id, json_build_object('was', n.was::json, 'is', vobiz.billed(c))
         from unnest($1::text[], $2::text[]) as n (call_id, was)
         join vobiz.cdr c on c.call_id = n.call_id
         order by c.call_id",
        call_ids as &[&str],
        was as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What is billed of some calls just now, as JSON, by call.
pub(in crate::db) async fn billed(
    connection: &mut PgConnection,
    call_ids: &[&str],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select c.call_id, vobiz.billed(c)::text as "was!" from vobiz.cdr c where c.call_id = any($1) order by c.call_id"#,
        call_ids as &[&str]
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.call_id, row.was)).collect())
}

/// Writes down where a list has overruled the version of a call that was shown; `was` is what [`billed`] said of each before.
pub(in crate::db) async fn overruled(
    connection: &mut PgConnection,
    was: &[(String, String)],
) -> Result<(), sqlx::Error> {
    let (call_ids, was): (Vec<&str>, Vec<&str>) =
        was.iter().map(|(call_id, was)| (call_id.as_str(), was.as_str())).unzip();
    sqlx::query!(
        "insert into vobiz.audit (action, call_id, account_id, reason, detail)
         select 'overruled_by_list', c.call_id, c.account_id,
                'Vobiz''s list contradicted the version that was shown, with the same values on three checks of its day running',
                json_build_object('was', n.was::json, 'is', vobiz.billed(c))
         from unnest($1::text[], $2::text[]) as n (call_id, was)
         join vobiz.cdr c on c.call_id = n.call_id
         order by c.call_id",
        &call_ids as &[&str],
        &was as &[&str]
    )
    .execute(connection)
    .await?;
    Ok(())
}
