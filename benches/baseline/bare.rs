//! A fetch loop and nothing else: so many requests under way, each answer read to its end and thrown away. What is left of this
//! rate when the CDRs are stored says what storing costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinSet;
use vobiz_cdr::vobiz::http_client;

use crate::harness::role::{RoleArgs, ids_of, orders, read_ids, say};
use crate::harness::{ACCOUNT, TOKEN};

/// The role: `go FROM TO` fetches these and answers how many seconds it took.
pub(crate) async fn run(args: &RoleArgs) -> anyhow::Result<()> {
    let all = read_ids(args)?;
    let http = http_client(Duration::from_secs(15))?;
    let base = format!("{}/api/v1/Account/{ACCOUNT}/cdr/", args.api_url);
    say("ready");
    let mut orders = orders();
    while let Some(order) = orders.next_line().await? {
        let ids: Arc<[String]> = ids_of(&order, &all)?.into();
        let (next, started, mut workers) = (Arc::new(AtomicUsize::new(0)), Instant::now(), JoinSet::new());
        for _ in 0..args.workers {
            let (ids, next, http, base) = (Arc::clone(&ids), Arc::clone(&next), http.clone(), base.clone());
            workers.spawn(async move {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = http.get(format!("{base}{id}"));
                    let request = request.header("X-Auth-ID", ACCOUNT).header("X-Auth-Token", TOKEN);
                    let answer = request.send().await?;
                    ensure!(answer.status() == 200, "{}", answer.status());
                    answer.bytes().await?;
                }
                Ok(())
            });
        }
        while let Some(done) = workers.join_next().await {
            done??;
        }
        say(&started.elapsed().as_secs_f64().to_string());
    }
    Ok(())
}
