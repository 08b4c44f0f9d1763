//! A whole service in this process, with an address for each of its ports.

use serde_json::Value;
use std::net::SocketAddr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vobiz_cdr::config::ServeConfig;
use vobiz_cdr::serve::{Ending, Service};
use vobiz_cdr::vobiz::http_client;

use super::wait::{LIMIT, until_is, until_some};

/// A running service.
pub(crate) struct Running {
    pub(crate) public: Option<SocketAddr>,
    pub(crate) ops: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(crate) async fn start(config: ServeConfig, url: &str) -> Self {
        let service = Service::prepare(config, url, true).await.unwrap();
        let (public, ops, stop) = (service.address().ok(), service.ops_address(), CancellationToken::new());
        let serving = tokio::spawn(service.run(stop.clone(), Ending::AtOnce));
        Self { public, ops, stop, serving }
    }

    /// Where callbacks go.
    pub(crate) fn callbacks(&self) -> String {
        format!("http://{}/callbacks/vobiz", self.public.unwrap())
    }

    /// Status and body of a page of the ops port.
    pub(crate) async fn page(&self, path: &str) -> (u16, String) {
        page(self.ops, path).await
    }

    /// What `/status` wants done; its code agrees.
    pub(crate) async fn acts(&self) -> Vec<String> {
        let (code, text) = self.page("/status").await;
        let page: Value = serde_json::from_str(&text).unwrap();
        let acts = page["act"].as_array().unwrap();
        assert_eq!(code, if acts.is_empty() { 200 } else { 503 }, "{text}");
        assert_eq!(page["status"], if acts.is_empty() { "ok" } else { "act" });
        acts.iter().map(|act| act["what"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until something wants to be done, and nothing else: its words.
    pub(crate) async fn the_only_act(&self) -> String {
        until_some("the operator must act", async || {
            let acts = self.acts().await;
            assert!(acts.len() < 2, "{acts:?}");
            acts.into_iter().next().ok_or("all is well")
        })
        .await
    }

    /// Waits until nobody has to act.
    pub(crate) async fn all_is_well(&self) {
        until_is("nobody has to act", [""; 0], async || self.acts().await).await;
    }

    /// The value of a series.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics").await;
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// Status and body of a page.
pub(crate) async fn page(address: SocketAddr, path: &str) -> (u16, String) {
    let client = http_client(LIMIT).unwrap();
    let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
