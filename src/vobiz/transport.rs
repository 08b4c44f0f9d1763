//! The HTTP client that all accounts share: bounded in time, no redirects; and renewed every few minutes, because a connection that
//! is kept alive for ever follows no name that has moved.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Url, header};

use super::plain;

/// A connection to the API is used no longer than this (and the request in hand).
const GREATEST_AGE: Duration = Duration::from_secs(300);

/// A client that is bounded in time and follows no redirect. Proxies of the environment are not heeded.
pub fn http_client(request_timeout: Duration) -> reqwest::Result<reqwest::Client> {
    builder(request_timeout).build()
}

fn builder(request_timeout: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("vobiz-cdr/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5).min(request_timeout))
        .timeout(request_timeout)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .no_proxy()
}

/// What the clients of all accounts send their requests with.
#[derive(Debug)]
pub struct Http {
    request_timeout: Duration,
    proxy: Option<Url>,
    greatest_age: Duration,
    present: Mutex<(Instant, reqwest::Client)>,
}

impl Http {
    /// One that waits so long for an answer, and goes through this proxy, if any.
    ///
    /// # Errors
    /// A proxy that is none, or no certificates on this machine.
    pub fn new(request_timeout: Duration, proxy: Option<&Url>) -> reqwest::Result<Arc<Self>> {
        Self::with_age(request_timeout, proxy, GREATEST_AGE)
    }

    fn with_age(
        request_timeout: Duration,
        proxy: Option<&Url>,
        greatest_age: Duration,
    ) -> reqwest::Result<Arc<Self>> {
        let client = make(request_timeout, proxy)?;
        let present = Mutex::new((Instant::now(), client));
        Ok(Arc::new(Self { request_timeout, proxy: proxy.cloned(), greatest_age, present }))
    }

    /// The client for the next request. The connections of the one before it close when what it has in hand is done.
    pub(super) fn client(&self) -> reqwest::Client {
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if present.0.elapsed() >= self.greatest_age {
            // It was made once with the same settings; should it fail (out of files), the old one still does its work.
            if let Ok(client) = make(self.request_timeout, self.proxy.as_ref()) {
                *present = (Instant::now(), client);
            }
        }
        present.1.clone()
    }
}

fn make(request_timeout: Duration, proxy: Option<&Url>) -> reqwest::Result<reqwest::Client> {
    let builder = builder(request_timeout);
    match proxy {
        Some(proxy) => builder.proxy(reqwest::Proxy::all(proxy.clone())?).build(),
        None => builder.build(),
    }
}

/// What an answer says of the end of the API (`Deprecation`, RFC 9745; `Sunset`, RFC 8594), in words.
pub(super) fn going_away(headers: &header::HeaderMap) -> Option<String> {
    let said: Vec<String> = ["Deprecation", "Sunset"]
        .into_iter()
        .filter_map(|name| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(format!("{name}: {}", plain(&value.chars().take(80).collect::<String>())))
        })
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that keeps connections alive and counts them.
    async fn server() -> (Url, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    }
                });
            }
        });
        (url, connections)
    }

    async fn connections_of_five_requests(greatest_age: Duration) -> usize {
        let (url, connections) = server().await;
        let http = Http::with_age(Duration::from_secs(30), None, greatest_age).unwrap();
        for _ in 0..5 {
            let answer = http.client().get(url.clone()).send().await.unwrap();
            answer.bytes().await.unwrap();
        }
        connections.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_connection_is_kept_but_not_for_ever() {
        assert_eq!(connections_of_five_requests(Duration::from_secs(3600)).await, 1);
        assert_eq!(connections_of_five_requests(Duration::ZERO).await, 5);
    }

    #[tokio::test]
    async fn requests_go_through_the_proxy_that_is_set() {
        let (proxy, connections) = server().await;
        let http = Http::new(Duration::from_secs(30), Some(&proxy)).unwrap();
        let answer = http.client().get("http://api.example.invalid/x").send().await.unwrap();
        assert_eq!((answer.status().as_u16(), connections.load(Ordering::Relaxed)), (200, 1));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_the_token_stays_here() {
        let (elsewhere, connections) = server().await;
        for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let answer = format!("HTTP/1.1 {status}\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n");
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let http = Http::new(Duration::from_secs(30), None).unwrap();
            let answer = http.client().get(url).header("X-Auth-Token", "tok").send().await.unwrap();
            assert_eq!((answer.status().as_str(), connections.load(Ordering::Relaxed)), (&status[..3], 0));
        }
    }

    #[test]
    fn the_end_of_an_api_is_read() {
        let mut headers = header::HeaderMap::new();
        assert_eq!(going_away(&headers), None);
        headers.insert("sunset", "Sat, 31 Jan 2027 23:59:59 GMT".parse().unwrap());
        assert_eq!(going_away(&headers).unwrap(), "Sunset: Sat, 31 Jan 2027 23:59:59 GMT");
        headers.insert("deprecation", "@1688169599".parse().unwrap());
        assert!(going_away(&headers).unwrap().starts_with("Deprecation: @1688169599, Sunset: "));
    }
}
