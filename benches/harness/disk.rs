//! How long the disk takes to be sure: what every durable answer has to wait for.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use super::load::Latencies;

/// Writes 8 KiB and waits for the disk, again and again for this long, beside the load of the moment.
pub(crate) async fn fsyncs(folder: &Path, time: Duration) -> anyhow::Result<Latencies> {
    let path = folder.join("fsync-probe");
    tokio::task::spawn_blocking(move || {
        let mut file = std::fs::File::create(&path)?;
        let (block, started) = ([7_u8; 8192], Instant::now());
        let mut latencies = Vec::new();
        while started.elapsed() < time {
            let sent = Instant::now();
            file.write_all(&block)?;
            file.sync_data()?;
            latencies.push(sent.elapsed());
        }
        std::fs::remove_file(path)?;
        Ok(Latencies::new(latencies))
    })
    .await?
}
