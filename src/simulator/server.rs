//! The listening side: connections in, answers out, and the two things a handler alone cannot do to a client: cut a
//! body in the middle, and close a connection without an answer. What is answered is decided in `api.rs`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Reply;
use super::api;
use super::world::World;

type Body = Either<Full<Bytes>, UnsyncBoxBody<Bytes, io::Error>>;

/// Accepts until told to stop; then cuts what is open, as a machine that goes away does.
pub(super) async fn run(listener: TcpListener, world: Arc<World>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&world));
                let stop = stop.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            // Out of file descriptors, most likely: they come back when clients leave.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve(stream: TcpStream, world: Arc<World>) {
    // Answers are small: waiting to fill a packet would only add delay. If it cannot be set, it is slower.
    let _slower = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let world = Arc::clone(&world);
        async move {
            let reply = api::answer(&world, request.method(), request.uri(), request.headers()).await;
            // An error closes the connection before a byte is written, which is what a reset is.
            let reply = reply.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset))?;
            Ok::<_, io::Error>(response(reply, world.date()))
        }
    });
    // A client that leaves early is its own affair.
    let _left =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The answer on the wire; without a date of its own it gets ours from hyper.
fn response(reply: Reply, date: Option<SystemTime>) -> Response<Body> {
    let length = reply.body.len();
    let body = if reply.cut { cut(&reply.body) } else { Either::Left(Full::new(reply.body)) };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Some(content_type) = reply.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if reply.cut {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length.max(1)));
    }
    if let Some((name, value)) = reply.header
        && let Ok(value) = HeaderValue::from_str(&value)
    {
        headers.insert(HeaderName::from_static(name), value);
    }
    if let Some(date) = date.and_then(|date| HeaderValue::from_str(&httpdate::fmt_http_date(date)).ok()) {
        headers.insert(DATE, date);
    }
    response
}

/// Half of the body, then the end of the connection.
fn cut(body: &Bytes) -> Body {
    let half = body.slice(..body.len() / 2);
    let first = stream::iter([Ok(Frame::data(half))]);
    let break_off = stream::once(async {
        // Long enough for the first half to be on its way: an error at once would swallow it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Either::Right(StreamBody::new(first.chain(break_off)).boxed_unsync())
}
