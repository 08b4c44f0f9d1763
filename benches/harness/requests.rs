//! Callbacks made in advance, as bytes on the wire: signed as Vobiz signs them, with the 674 bytes of a captured hang-up give
//! or take a few, every one for a call of its own.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use vobiz_cdr::simulator::{CallSpec, CallbackKind, Simulator, SimulatorOptions};

use super::PUBLIC_URL;

/// So many hang-up callbacks; another `seed` makes other calls.
pub(crate) async fn hangups(count: usize, seed: u64) -> anyhow::Result<Arc<Vec<Bytes>>> {
    let options =
        SimulatorOptions { seed, callback_url: Some(PUBLIC_URL.to_owned()), ..SimulatorOptions::default() };
    let simulator = Simulator::start(options).await?;
    let mut requests = Vec::with_capacity(count);
    for _ in 0..count {
        let call = simulator.place_call(CallSpec::default());
        let request = simulator.callback_request(&call, CallbackKind::Hangup)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri().path());
        write!(head, "host: {}\r\n", request.uri().authority().map_or("localhost", |a| a.as_str()))?;
        for (name, value) in request.headers() {
            write!(head, "{name}: {}\r\n", value.to_str()?)?;
        }
        write!(head, "content-length: {}\r\n\r\n", request.body().len())?;
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(request.body());
        requests.push(Bytes::from(bytes));
    }
    simulator.stop().await;
    Ok(Arc::new(requests))
}
