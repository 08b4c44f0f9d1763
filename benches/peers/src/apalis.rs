//! The drain through apalis-postgres, tuned as its documentation says: big batches, tasks on the threads of the runtime,
//! woken by an interval or by NOTIFY.

use std::sync::Arc;

use anyhow::Context;
use apalis::prelude::{
    BackendExt, BoxDynError, Data, ParallelizeExt, TaskBuilder, WorkerBuilder, WorkerBuilderExt,
};
use apalis_postgres::{Config, PostgresStorage, queries};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::drain::Drain;
use crate::tuning::{ApalisTuning, Shared};

/// The name of the queue.
const QUEUE: &str = "fetch_cdr";

/// One task.
async fn fetch_cdr(call_id: String, drain: Data<Arc<Drain>>) -> Result<(), BoxDynError> {
    drain.attend(&call_id).await.map_err(Into::into)
}

/// Workers that run, and the way to give them tasks.
pub(crate) struct Apalis {
    pool: PgPool,
    analyze: bool,
    running: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Apalis {
    /// Makes the tables of the queue and starts workers on it, which share the `workers` between them.
    pub(crate) async fn start(
        pool: PgPool,
        drain: &Arc<Drain>,
        shared: &Shared,
        tuning: &ApalisTuning,
    ) -> anyhow::Result<Self> {
        PostgresStorage::setup(&pool).await.context("the tables of apalis-postgres")?;
        let stop = CancellationToken::new();
        let workers = shared.workers;
        let instances = tuning.instances.clamp(1, workers);
        let running = (0..instances)
            .map(|instance| {
                let concurrency = workers / instances + usize::from(instance < workers % instances);
                let config =
                    Config::default().queue(QUEUE).batch_size(tuning.batch).lock_tasks(tuning.lock_tasks);
                let storage = PostgresStorage::<String>::new(&pool).with_config(config);
                let name = format!("peer-{instance}");
                // The two backends are two types, so the rest of the builder stands twice, as a macro.
                macro_rules! run {
                    ($backend:expr) => {
                        tokio::spawn(
                            WorkerBuilder::new(name.as_str())
                                .backend($backend)
                                .concurrency(concurrency)
                                .parallelize(tokio::spawn)
                                .data(Arc::clone(drain))
                                .build(fetch_cdr)
                                .run_until(stopped(stop.clone())),
                        )
                    };
                }
                let worker = if tuning.pubsub {
                    run!(storage.with_pubsub().poll_with_interval(tuning.poll))
                } else {
                    run!(storage.poll_with_interval(tuning.poll))
                };
                tokio::spawn(async move {
                    match worker.await {
                        Ok(Ok(())) => {}
                        Ok(Err(error)) => error!(%error, "a worker of apalis stopped"),
                        Err(error) => error!(%error, "a worker of apalis did not stop well"),
                    }
                })
            })
            .collect();
        Ok(Self { pool, analyze: !shared.no_analyze, running, stop })
    }

    /// Adds tasks: one statement in one transaction, in which the planner learns of them as well.
    pub(crate) async fn enqueue(&self, call_ids: &[String]) -> anyhow::Result<()> {
        let tasks = call_ids
            .iter()
            .map(|call_id| Ok(TaskBuilder::new(serde_json::to_vec(call_id)?).build()))
            .collect::<Result<Vec<_>, serde_json::Error>>()?;
        let mut transaction = self.pool.begin().await?;
        queries::push_tasks(&mut *transaction, QUEUE, tasks).await?;
        if self.analyze {
            sqlx::query("analyze apalis.jobs").execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Stops the workers; what they have claimed and not begun goes back.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for worker in self.running {
            if let Err(error) = worker.await {
                error!(%error, "a worker of apalis did not stop well");
            }
        }
    }
}

async fn stopped(stop: CancellationToken) -> std::io::Result<()> {
    stop.cancelled().await;
    Ok(())
}
