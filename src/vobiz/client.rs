//! The thin side of the room: one request to the Vobiz API, and a name for everything that can go wrong with it.
//!
//! What to do about a failure is not decided here (see `crate::retry`). The promise: one call is one request, bounded in
//! time and in size, to the configured host only. Redirects are not followed, because the token would travel along.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::header::{ApiDate, retry_after};
use super::transport::{Http, going_away};
use super::{
    AccountId, CallId, Cdr, HomeCountry, ListFilter, ListPage, Single, Unreadable, decode_list,
    decode_single, plain,
};

/// Longest answer to a single fetch that is read, in bytes. A CDR has about 1.5 kB.
const SINGLE_LIMIT: usize = 1 << 20;
/// Longest page of a list that is read, in bytes. A hundred rows have about 150 kB.
const LIST_LIMIT: usize = 16 << 20;

/// What went wrong with one request, in the words of the field.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The record does not exist, or not yet: 404, an empty 200, `success: false` or `data: null`. Vobiz answers the same
    /// for a call that runs, a call that never was, and a record that is being written (documented).
    #[error("not yet: {0}")]
    NotYet(String),
    /// 429. Documented for placing calls; applied to reading by inference.
    #[error("throttled: {said}")]
    Throttled {
        /// How long Vobiz asks us to wait; `None` if it does not say. A date in the past means zero.
        retry_after: Option<Duration>,
        /// The answer in short.
        said: String,
    },
    /// 5xx, 408, 3xx, a timeout, a broken connection, a page of HTML, half a body.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// 401 or 403: wrong credentials, a path in the wrong casing, or missing permission (documented for all three).
    #[error("denied: {0}")]
    Denied(String),
    /// Any other 4xx.
    #[error("refused: {0}")]
    Refused(String),
    /// 200, but not the CDR that was asked for.
    #[error("unreadable: {why}")]
    Unreadable {
        /// What could not be read.
        why: String,
        /// The answer as it came, at most 64 KiB of it.
        body: Bytes,
    },
}

impl FetchError {
    /// The failure for a log line: its class and status, without what Vobiz said, which may hold phone numbers.
    pub fn brief(&self) -> String {
        let status = |said: &str| said.split_once(": ").map_or(said, |(status, _)| status).to_owned();
        match self {
            Self::NotYet(said) => format!("not yet: {}", status(said)),
            Self::Throttled { said, .. } => format!("throttled: {}", status(said)),
            // Either a status and a body, or words of our own about the transport.
            Self::Unavailable(said) if said.starts_with(|c: char| c.is_ascii_digit()) => {
                format!("unavailable: {}", status(said))
            }
            Self::Unavailable(said) => format!("unavailable: {said}"),
            Self::Denied(said) => format!("denied: {}", status(said)),
            Self::Refused(said) => format!("refused: {}", status(said)),
            Self::Unreadable { why, .. } => format!("unreadable: {why}"),
        }
    }
}

/// The casing of the API path, about which the vendor's own pages disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStyle {
    /// `/api/v1/Account/…`: the present documentation.
    Capital,
    /// `/api/v1/account/…`: the documentation until May 2026, and a production system of February 2026.
    Lower,
    /// `/api/v1/partner/accounts/…/cdrs`: a customer of a partner, read with the partner's credentials.
    Partner,
}

impl PathStyle {
    fn cdrs(self) -> (&'static str, &'static str) {
        match self {
            Self::Capital => ("Account", "cdr"),
            Self::Lower => ("account", "cdr"),
            Self::Partner => ("partner/accounts", "cdrs"),
        }
    }

    /// `Account` or `account`: how the casing is written down; `None` for a partner path, which has no two casings.
    pub fn as_casing(self) -> Option<&'static str> {
        match self {
            Self::Capital => Some("Account"),
            Self::Lower => Some("account"),
            Self::Partner => None,
        }
    }
}

/// One account and how to ask for its CDRs.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The account whose CDRs are asked for.
    pub account_id: AccountId,
    /// `X-Auth-ID`: the account itself, or the partner that may see it.
    pub auth_id: AccountId,
    /// `X-Auth-Token` candidates: the current token first, then the previous one during a rotation.
    pub tokens: Vec<SecretString>,
    /// Path styles to try, best first; a single one is not searched for.
    pub styles: Vec<PathStyle>,
}

/// A path style and a token (by its place in [`Credentials::tokens`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    style: PathStyle,
    token: usize,
}

impl Access {
    /// How the path is written, and the place of the token among those that are configured, from 1.
    pub fn parts(self) -> (PathStyle, usize) {
        (self.style, self.token + 1)
    }
}

/// Which rows of the list to ask for.
#[derive(Debug, Clone, Default)]
pub struct ListQuery {
    /// Page, from 1.
    pub page: u32,
    /// Rows a page, at most 100 (documented).
    pub per_page: u32,
    /// First and last day, `YYYY-MM-DD`; Vobiz heeds them only together (documented).
    pub days: Option<(chrono::NaiveDate, chrono::NaiveDate)>,
    /// Only what all of these let through.
    pub filters: Vec<ListFilter>,
    /// Only the call with this SIP Call-ID (documented since 30 June 2026).
    pub sip_call_id: Option<String>,
}

/// A client for one account.
#[derive(Debug)]
pub struct Client {
    http: Arc<Http>,
    base: Url,
    credentials: Credentials,
    home: HomeCountry,
    access: Mutex<Option<Access>>,
    date: Mutex<Option<ApiDate>>,
    witness: Mutex<Option<ApiDate>>,
    going_away: Mutex<Option<String>>,
}

impl Client {
    /// A client of `base` (such as `https://api.vobiz.ai`) for one account.
    pub fn new(http: Arc<Http>, base: Url, credentials: Credentials, home: HomeCountry) -> Self {
        let access = match credentials.styles.as_slice() {
            [style] if credentials.tokens.len() == 1 => Some(Access { style: *style, token: 0 }),
            _ => None,
        };
        Self {
            http,
            base,
            credentials,
            home,
            access: Mutex::new(access),
            date: Mutex::default(),
            witness: Mutex::default(),
            going_away: Mutex::default(),
        }
    }

    /// The account whose CDRs this client asks for.
    pub fn account_id(&self) -> &AccountId {
        &self.credentials.account_id
    }

    /// The path style that works, once it is known.
    pub fn style(&self) -> Option<PathStyle> {
        self.access().map(|access| access.style)
    }

    /// The path style and token that work, once they are known.
    pub fn access(&self) -> Option<Access> {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many seconds the clock of the API was ahead of ours at its last answer, by its `Date` header; to half a second, since
    /// that is how fine the header is. `None` before the first answer with one.
    pub fn clock_skew(&self) -> Option<f64> {
        self.date.lock().unwrap_or_else(PoisonError::into_inner).map(|date| date.skew)
    }

    /// What time it is at Vobiz, by the `Date` header of the last answer that was one to our question (and no page of a proxy in between);
    /// no clock that was set since then moves it.
    pub fn now(&self) -> Option<DateTime<Utc>> {
        self.witness.lock().unwrap_or_else(PoisonError::into_inner).map(|date| date.now())
    }

    /// What the last answer said of the end of the API, if anything.
    pub fn going_away(&self) -> Option<String> {
        self.going_away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The accesses worth trying, the present one first: every path style with every token.
    pub fn candidates(&self) -> Vec<Access> {
        let mut candidates: Vec<Access> = self.access().into_iter().collect();
        for token in 0..self.credentials.tokens.len() {
            for &style in &self.credentials.styles {
                let access = Access { style, token };
                if !candidates.contains(&access) {
                    candidates.push(access);
                }
            }
        }
        candidates
    }

    /// Asks with this access from now on.
    pub fn use_access(&self, access: Access) {
        *self.access.lock().unwrap_or_else(PoisonError::into_inner) = Some(access);
    }

    /// Fetches one CDR.
    pub async fn fetch_cdr(&self, call_id: &CallId) -> Result<Cdr, FetchError> {
        self.fetch_with(self.access().unwrap_or(self.first_access()), call_id).await
    }

    /// Fetches one CDR with an access that may not be the one in use.
    pub async fn fetch_with(&self, access: Access, call_id: &CallId) -> Result<Cdr, FetchError> {
        let mut url = self.cdrs_url(access.style);
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(call_id.as_str());
        }
        let body = self.get(url, access.token, SINGLE_LIMIT).await?;
        let cdr = match decode_single(&body, self.home) {
            Ok(Single::Cdr(cdr)) => *cdr,
            Ok(Single::NotYet(why)) => return Err(FetchError::NotYet(format!("200 with {why}"))),
            Err(error) => return Err(named(&error, &body)),
        };
        if cdr.call_id != *call_id {
            return Err(unreadable(format!("the CDR of another call came: {}", cdr.call_id), &body));
        }
        Ok(cdr)
    }

    /// Asks for one page of the CDR list, newest first (documented).
    pub async fn list_cdrs(&self, query: &ListQuery) -> Result<ListPage, FetchError> {
        self.list_with(self.access().unwrap_or(self.first_access()), query).await
    }

    fn first_access(&self) -> Access {
        Access { style: self.credentials.styles.first().copied().unwrap_or(PathStyle::Capital), token: 0 }
    }

    /// Asks for one page with an access that may not be the one in use.
    pub async fn list_with(&self, access: Access, query: &ListQuery) -> Result<ListPage, FetchError> {
        let mut url = self.cdrs_url(access.style);
        {
            let mut pairs = url.query_pairs_mut();
            pairs.append_pair("page", &query.page.max(1).to_string());
            pairs.append_pair("per_page", &query.per_page.clamp(1, 100).to_string());
            if let Some((first, last)) = query.days {
                pairs.append_pair("start_date", &first.to_string());
                pairs.append_pair("end_date", &last.to_string());
            }
            for filter in &query.filters {
                pairs.append_pair(filter.parameter(), filter.value());
            }
            if let Some(sip_call_id) = &query.sip_call_id {
                pairs.append_pair("sip_call_id", sip_call_id);
            }
        }
        let body = self.get(url, access.token, LIST_LIMIT).await?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(FetchError::Unavailable("200 with an empty body instead of a list".into()));
        }
        let page = decode_list(&body, self.home).map_err(|error| named(&error, &body))?;
        if page.success == Some(false) {
            return Err(FetchError::Unavailable("the list says success: false".into()));
        }
        Ok(page)
    }

    fn cdrs_url(&self, style: PathStyle) -> Url {
        let (family, cdrs) = style.cdrs();
        let mut url = self.base.clone();
        // The base is checked to be http(s) when the settings are read, so it has path segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(family.split('/'));
            path.push(self.credentials.account_id.as_str()).push(cdrs);
        }
        url
    }

    async fn get(&self, url: Url, token: usize, limit: usize) -> Result<Bytes, FetchError> {
        let token = self.credentials.tokens.get(token).map_or("", |token| token.expose_secret());
        let request = self
            .http
            .client()
            .get(url)
            .header("X-Auth-ID", self.credentials.auth_id.as_str())
            .header("X-Auth-Token", token)
            .header(header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| transport(&error))?;
        let status = response.status();
        let headers = response.headers().clone();
        let date = ApiDate::read(&headers, SystemTime::now());
        if date.is_some() {
            *self.date.lock().unwrap_or_else(PoisonError::into_inner) = date;
        }
        *self.going_away.lock().unwrap_or_else(PoisonError::into_inner) = going_away(&headers);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(unreadable(format!("the answer is longer than {limit} bytes"), &body));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = evaluate(status, &headers, body.freeze());
        if date.is_some() && matches!(answer, Ok(_) | Err(FetchError::NotYet(_))) {
            *self.witness.lock().unwrap_or_else(PoisonError::into_inner) = date;
        }
        answer
    }
}

/// The status decides; the body only explains (four shapes of error bodies are documented, none for this endpoint).
fn evaluate(status: StatusCode, headers: &HeaderMap, body: Bytes) -> Result<Bytes, FetchError> {
    let said = || format!("{}{}", status.as_u16(), excerpt(&body));
    match status.as_u16() {
        200 if looks_like_html(&body) => Err(FetchError::Unavailable("200 with a page of HTML".into())),
        200 => Ok(body),
        204 => Err(FetchError::NotYet("204".into())),
        404 => Err(FetchError::NotYet(said())),
        429 => Err(FetchError::Throttled { retry_after: retry_after(headers, &body), said: said() }),
        401 | 403 => Err(FetchError::Denied(said())),
        408 => Err(FetchError::Unavailable(said())),
        400..500 => Err(FetchError::Refused(said())),
        _ => Err(FetchError::Unavailable(said())),
    }
}

fn looks_like_html(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// `: ` and the first 200 characters of a body on one line; a page of HTML is only named.
fn excerpt(body: &[u8]) -> String {
    if looks_like_html(body) {
        return ": a page of HTML".into();
    }
    let text = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        String::new()
    } else {
        format!(": {}", plain(&line.chars().take(200).collect::<String>()))
    }
}

fn named(error: &Unreadable, body: &Bytes) -> FetchError {
    match error {
        Unreadable::CutShort => FetchError::Unavailable("200 with half a body".into()),
        _ => unreadable(error.to_string(), body),
    }
}

fn unreadable(why: String, body: &[u8]) -> FetchError {
    FetchError::Unreadable { why, body: Bytes::copy_from_slice(&body[..body.len().min(65_536)]) }
}

/// Names a failure below HTTP. The URL is left out: it holds the account.
fn transport(error: &reqwest::Error) -> FetchError {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else if error.is_body() || error.is_decode() {
        "the answer broke off"
    } else {
        "the request failed"
    };
    let mut text = what.to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    FetchError::Unavailable(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_names_the_failure() {
        let classed = |status: u16, body: &'static str| {
            evaluate(
                StatusCode::from_u16(status).unwrap(),
                &HeaderMap::new(),
                Bytes::from_static(body.as_bytes()),
            )
            .err()
            .map(|error| error.to_string())
        };
        assert_eq!(classed(200, "{}"), None);
        assert_eq!(
            classed(404, "{\"error\":\"CDR not found\"}").unwrap(),
            "not yet: 404: {\"error\":\"CDR not found\"}"
        );
        assert_eq!(classed(200, " <html>").unwrap(), "unavailable: 200 with a page of HTML");
        assert_eq!(classed(502, "<html><body>").unwrap(), "unavailable: 502: a page of HTML");
        for (status, class) in
            [(301, "unavailable"), (408, "unavailable"), (500, "unavailable"), (401, "denied")]
        {
            assert!(classed(status, "").unwrap().starts_with(class), "{status}");
        }
        for (status, class) in
            [(403, "denied"), (400, "refused"), (402, "refused"), (422, "refused"), (429, "throttled")]
        {
            assert!(classed(status, "").unwrap().starts_with(class), "{status}");
        }
    }
}
