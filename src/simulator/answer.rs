//! The wrong, late and odd answers a fetch can get: what a test scripts and what a fault draws. How they look on the
//! wire is here; when they are given is decided in `api.rs`. Promise: each is something a real service was seen or
//! documented to do, or a network can do to it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::cdr;
use super::world::Row;

/// How a 429 says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// `Retry-After: 30`.
    Seconds(u32),
    /// `Retry-After` with a date that many seconds ahead.
    HttpDate(u32),
    /// `Retry-After` with a date an hour ago.
    PastDate,
    /// No header; `error.details.retryAfter` in the body.
    BodyOnly(u32),
    /// Neither header nor body.
    Silent,
}

impl RetryAfter {
    /// Every form, with the same wait.
    pub fn each(seconds: u32) -> [Self; 5] {
        [
            Self::Seconds(seconds),
            Self::HttpDate(seconds),
            Self::PastDate,
            Self::BodyOnly(seconds),
            Self::Silent,
        ]
    }
}

/// One answer in place of the normal one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 404 as for a CDR that is not written yet.
    NotFound,
    /// 404 until then, by Vobiz's clock; keeps its place in the script and counts once.
    NotFoundUntil(DateTime<Utc>),
    /// 429.
    Throttled(RetryAfter),
    /// This status with this body, declared as JSON.
    Status(u16, String),
    /// 502 with the HTML page of a load balancer.
    Html,
    /// 200, and the connection is cut after half of the promised bytes.
    HalfBody,
    /// The normal answer, this much later.
    Slow(Duration),
    /// 200 with `success: false`.
    SuccessFalse,
    /// 200 with `data: null`.
    DataNull,
    /// 200 without a body.
    Empty,
    /// 200 with the CDR under another `uuid`. A list answers as usual.
    WrongUuid,
    /// 200 with this body, declared as JSON.
    Body(String),
    /// The connection is closed without an answer.
    Reset,
    /// 302 to this URL.
    Redirect(String),
}

impl Answer {
    /// 401 as for wrong credentials.
    pub fn denied() -> Self {
        Self::Status(401, INVALID_CREDENTIALS.to_owned())
    }

    /// 500 in the envelope of the errors page.
    pub fn server_error() -> Self {
        let body = concat!(
            r#"{"status":"error","error":{"code":"INTERNAL_ERROR","message":"An internal error occurred","details":{}},"#,
            r#""timestamp":"2026-03-25T10:00:00Z","requestId":"req_3c4d5e6f7081"}"#
        );
        Self::Status(500, body.to_owned())
    }
}

pub(super) const INVALID_CREDENTIALS: &str = r#"{"error":"invalid credentials"}"#;
pub(super) const CDR_NOT_FOUND: &str = r#"{"error":"CDR not found"}"#;

const BAD_GATEWAY: &str = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n<center><h1>502 Bad Gateway\
                           </h1></center>\n<hr><center>nginx</center>\n</body>\n</html>\n";

/// What goes back over the wire; `None` in its place closes the connection.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: Option<&'static str>,
    /// At most one more header: `Retry-After` or `Location`.
    pub(super) header: Option<(&'static str, String)>,
    pub(super) body: Bytes,
    pub(super) delay: Duration,
    pub(super) cut: bool,
}

impl Reply {
    pub(super) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: Some("application/json"),
            header: None,
            body: body.into(),
            delay: Duration::ZERO,
            cut: false,
        }
    }

    pub(super) fn throttled(form: RetryAfter) -> Self {
        const NO_HINT: &str = r#"{"error":"rate limit exceeded"}"#;
        let date = |at: SystemTime| Some(("retry-after", httpdate::fmt_http_date(at)));
        let body = match form {
            RetryAfter::BodyOnly(seconds) => format!(
                r#"{{"status":"error","error":{{"code":"RATE_LIMIT_EXCEEDED","message":"Too many requests","details":{{"limitType":"api","limit":60,"current":61,"retryAfter":{seconds}}}}}}}"#
            ),
            _ => NO_HINT.to_owned(),
        };
        let header = match form {
            RetryAfter::Seconds(seconds) => Some(("retry-after", seconds.to_string())),
            RetryAfter::HttpDate(seconds) => date(SystemTime::now() + Duration::from_secs(seconds.into())),
            RetryAfter::PastDate => date(SystemTime::now() - Duration::from_secs(3600)),
            RetryAfter::BodyOnly(_) | RetryAfter::Silent => None,
        };
        Self { header, ..Self::json(429, body) }
    }
}

impl Answer {
    /// The wire form, given the normal answer and, on a single fetch, the call it shows.
    pub(super) fn reply(&self, normal: impl FnOnce() -> Reply, row: Option<&Row>) -> Option<Reply> {
        Some(match self {
            Self::NotFound | Self::NotFoundUntil(_) => Reply::json(404, CDR_NOT_FOUND),
            Self::Throttled(form) => Reply::throttled(*form),
            Self::Status(status, body) => Reply::json(*status, body.clone()),
            Self::Html => Reply { content_type: Some("text/html"), ..Reply::json(502, BAD_GATEWAY) },
            Self::HalfBody => Reply { cut: true, ..normal() },
            Self::Slow(delay) => Reply { delay: *delay, ..normal() },
            Self::SuccessFalse => Reply::json(200, r#"{"success":false}"#),
            Self::DataNull => Reply::json(200, r#"{"data":null,"success":true}"#),
            Self::Empty => Reply { content_type: None, ..Reply::json(200, Bytes::new()) },
            Self::WrongUuid => match row {
                Some(row) => {
                    let mut call = row.call.clone();
                    "00000000-0000-4000-8000-000000000000".clone_into(&mut call.call_id);
                    call.body = None;
                    Reply::json(200, cdr::single(&call))
                }
                None => normal(),
            },
            Self::Body(body) => Reply::json(200, body.clone()),
            Self::Reset => return None,
            Self::Redirect(url) => Reply { header: Some(("location", url.clone())), ..Reply::json(302, "") },
        })
    }
}
