//! One call at a time, by so many workers: each leases one call, fetches it, stores it and deletes it from the queue, every
//! step committed on its own, as most queue workers do it.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::{Connection, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::db::{self, cdr};
use vobiz_cdr::vobiz::{AccountId, CallId, Client, Credentials, HomeCountry, Http, PathStyle};

use crate::harness::role::{RoleArgs, ids_of, orders, read_ids, say};
use crate::harness::{ACCOUNT, TOKEN, queue};

/// The role: `go FROM TO` enqueues these and answers when, by the clock of Postgres; the workers are at it already.
pub(crate) async fn run(args: &RoleArgs) -> anyhow::Result<()> {
    let all = read_ids(args)?;
    let pool = db::connect(&args.database_url, "single", u32::try_from(args.workers)?)?;
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for _ in 0..args.workers {
        workers.spawn(work(pool.clone(), client(args)?, stop.clone()));
    }
    say("ready");
    let mut orders = orders();
    while let Some(order) = orders.next_line().await? {
        say(&queue::enqueue(&pool, &ids_of(&order, &all)?).await?.to_string());
    }
    stop.cancel();
    while let Some(done) = workers.join_next().await {
        done??;
    }
    Ok(())
}

/// The client of the service.
fn client(args: &RoleArgs) -> anyhow::Result<Client> {
    let account = AccountId::new(ACCOUNT)?;
    let credentials = Credentials {
        account_id: account.clone(),
        auth_id: account,
        tokens: vec![SecretString::from(TOKEN)],
        styles: vec![PathStyle::Capital],
    };
    let http = Http::new(Duration::from_secs(15), None)?;
    Ok(Client::new(http, args.api_url.parse()?, credentials, HomeCountry::INDIA))
}

async fn work(pool: PgPool, client: Client, stop: CancellationToken) -> anyhow::Result<()> {
    while !stop.is_cancelled() {
        let leased: Option<(String, chrono::DateTime<chrono::Utc>)> = sqlx::query_as(
            "update vobiz.cdr_queue set due_at = vobiz.now() + interval '30 seconds', lease_id = nextval('vobiz.lease_id')
             where call_id = (
               select call_id from vobiz.cdr_queue
               where account_id = $1 and certain and dead_at is null and due_at <= vobiz.now()
               order by due_at limit 1 for update skip locked)
             returning call_id, vobiz.now()",
        )
        .bind(ACCOUNT)
        .fetch_optional(&pool)
        .await?;
        let Some((call_id, now)) = leased else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let fetched = client.fetch_cdr(&CallId::new(&call_id)?).await?;
        let incoming = cdr::Incoming::new(fetched, client.account_id(), cdr::Origin::Callback, true, now);
        let mut connection = pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        cdr::upsert(&mut transaction, &[&incoming]).await?;
        transaction.commit().await?;
        sqlx::query("delete from vobiz.cdr_queue where call_id = $1")
            .bind(&call_id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
