//! The log of what people did to the data, and who is at work. Triggers write into it as well: see its migration.

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
