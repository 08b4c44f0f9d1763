//! The drain through graphile_worker, tuned as its documentation says: jobs are claimed in batches into a local queue, and
//! completions are deleted in batches.

use std::sync::Arc;

use anyhow::Context;
use graphile_worker::{IntoTaskHandlerResult, JobSpec, LocalQueueConfig, TaskHandler};
use graphile_worker::{Worker, WorkerContext, WorkerOptions, WorkerUtils};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tracing::error;

use crate::drain::Drain;
use crate::tuning::{GraphileTuning, Shared};

/// The payload of a job.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct FetchCdr {
    call_id: String,
}

/// The drain, as an extension of the worker.
#[derive(Debug, Clone)]
struct Extension(Arc<Drain>);

impl TaskHandler for FetchCdr {
    const IDENTIFIER: &'static str = "fetch_cdr";

    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        let Some(Extension(drain)) = ctx.get_ext::<Extension>() else {
            return Err("the worker has no drain".to_owned());
        };
        drain.attend(&self.call_id).await.map_err(|error| format!("{error:#}"))
    }
}

/// A worker that runs, and the way to give it jobs.
pub(crate) struct Graphile {
    pool: PgPool,
    analyze: bool,
    worker: Arc<Worker>,
    running: JoinHandle<()>,
    utils: WorkerUtils,
}

impl Graphile {
    /// Makes the tables of the queue and starts a worker on it.
    pub(crate) async fn start(
        pool: PgPool,
        drain: Arc<Drain>,
        shared: &Shared,
        tuning: &GraphileTuning,
    ) -> anyhow::Result<Self> {
        let mut options = WorkerOptions::default()
            .pg_pool(pool.clone())
            .concurrency(shared.workers)
            .poll_interval(tuning.poll)
            .listen_os_shutdown_signals(false)
            .add_extension(Extension(drain))
            .define_job::<FetchCdr>();
        if tuning.local_queue > 0 {
            options = options.local_queue(
                LocalQueueConfig::default()
                    .with_size(tuning.local_queue)
                    .with_queue_count(tuning.local_queues),
            );
        }
        if !tuning.complete_delay.is_zero() {
            options = options
                .complete_job_batch_delay(tuning.complete_delay)
                .fail_job_batch_delay(tuning.complete_delay);
        }
        let init = Box::pin(options.init());
        let worker = Arc::new(init.await.context("graphile_worker does not start")?);
        let utils = worker.create_utils();
        let running = tokio::spawn({
            let worker = Arc::clone(&worker);
            async move {
                if let Err(error) = worker.run().await {
                    error!(%error, "graphile_worker stopped");
                }
            }
        });
        Ok(Self { pool, analyze: !shared.no_analyze, worker, running, utils })
    }

    /// Adds jobs: one statement in one transaction, in which the planner learns of them as well.
    pub(crate) async fn enqueue(&self, call_ids: &[String]) -> anyhow::Result<()> {
        let spec = JobSpec::default();
        let jobs: Vec<(FetchCdr, &JobSpec)> =
            call_ids.iter().map(|call_id| (FetchCdr { call_id: call_id.clone() }, &spec)).collect();
        let mut transaction = self.pool.begin().await?;
        self.utils.clone().with_executor(&mut transaction).add_jobs(&jobs).await?;
        if self.analyze {
            sqlx::query("analyze graphile_worker._private_jobs").execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Stops the worker; what it has claimed and not begun goes back.
    pub(crate) async fn stop(self) {
        self.worker.request_shutdown();
        if let Err(error) = self.running.await {
            error!(%error, "graphile_worker did not stop well");
        }
    }
}
