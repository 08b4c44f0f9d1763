//! What the headers of an answer say beside its status: how long to wait, and what time it is at Vobiz.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, header};

/// A `Retry-After` beyond this is taken for a mistake: nobody wants to be silent for a day because of a header.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long to wait after a 429: `Retry-After` in seconds or as a date (past means zero), else `retryAfter` in the body,
/// at its documented place or at the top.
pub(super) fn retry_after(headers: &HeaderMap, body: &[u8]) -> Option<Duration> {
    const MILLISECONDS: HeaderName = HeaderName::from_static("retry-after-ms");
    let header = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let seconds =
        |text: &str| text.parse::<f64>().ok().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let from_header =
        header(&MILLISECONDS).and_then(seconds).map(|milliseconds| milliseconds / 1000.0).or_else(|| {
            let text = header(&header::RETRY_AFTER)?;
            seconds(text).or_else(|| {
                let at = httpdate::parse_http_date(text).ok()?;
                // The one place where a clock of ours meets theirs: both sides of a date are wall clocks.
                Some(at.duration_since(SystemTime::now()).map_or(0.0, |wait| wait.as_secs_f64()))
            })
        });
    let from_body = || {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let found = ["/error/details/retryAfter", "/details/retryAfter", "/retryAfter", "/retry_after"]
            .iter()
            .find_map(|pointer| value.pointer(pointer))?;
        found.as_f64().or_else(|| seconds(found.as_str()?)).filter(|seconds| *seconds >= 0.0)
    };
    let wait = from_header.or_else(from_body)?;
    Some(Duration::from_secs_f64(wait.min(LONGEST_RETRY_AFTER.as_secs_f64())))
}

/// What the `Date` header of an answer told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiDate {
    /// By how many seconds it was ahead of our clock.
    pub(super) skew: f64,
    at: DateTime<Utc>,
    read: Instant,
}

impl ApiDate {
    /// Reads it, at this time of ours.
    pub(super) fn read(headers: &HeaderMap, now: SystemTime) -> Option<Self> {
        let skew = skew_by(headers, now)?;
        let ahead = TimeDelta::from_std(Duration::try_from_secs_f64(skew.abs()).ok()?).ok()?;
        let now = DateTime::from(now);
        let at = if skew < 0.0 { now.checked_sub_signed(ahead) } else { now.checked_add_signed(ahead) };
        Some(Self { skew, at: at?, read: Instant::now() })
    }

    /// What time it is there by now.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.at + self.read.elapsed()
    }
}

/// What time it is at Vobiz, by the `Date` headers of the last few answers that were answers to our questions (and no pages of a proxy in
/// between); no clock that was set since then moves it.
#[derive(Debug, Default)]
pub struct ApiClock(Mutex<VecDeque<ApiDate>>);

impl ApiClock {
    /// So many answers are kept.
    const KEPT: usize = 5;

    pub(super) fn note(&self, date: ApiDate) {
        let mut dates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        dates.truncate(Self::KEPT - 1);
        dates.push_front(date);
    }

    /// The earliest of what they say by now: of many machines at Vobiz, one may have a clock that is ahead. `None` before the first answer.
    pub fn now(&self) -> Option<DateTime<Utc>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(ApiDate::now).min()
    }
}

/// How many seconds the clock behind a `Date` header is ahead of ours. The header is cut to whole seconds, so half of one is
/// added: what is left of a difference below that is no skew.
fn skew_by(headers: &HeaderMap, now: SystemTime) -> Option<f64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let theirs = date + Duration::from_millis(500);
    let ahead = match theirs.duration_since(now) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    };
    Some(if ahead.abs() <= 1.0 { 0.0 } else { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&'static str, &str)], body: &str) -> Option<Duration> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        retry_after(&map, body.as_bytes())
    }

    #[test]
    fn every_form_of_retry_after_is_understood() {
        let in_body = include_str!("../../tests/data/vobiz/error_429_body_only.json");
        assert_eq!(wait(&[("retry-after", "7")], ""), Some(Duration::from_secs(7)));
        assert_eq!(wait(&[("retry-after", "0")], in_body), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")], ""), Some(Duration::ZERO));
        assert_eq!(wait(&[("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT")], ""), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait(&[("retry-after-ms", "1500")], ""), Some(Duration::from_millis(1500)));
        assert_eq!(wait(&[], in_body), Some(Duration::from_secs(30)));
        assert_eq!(wait(&[("retry-after", "soon")], in_body), Some(Duration::from_secs(30)));
        for odd in ["", "{", "<html>", r#"{"error":{"details":{"retryAfter":-1}}}"#, r#"{"retryAfter":"x"}"#]
        {
            assert_eq!(wait(&[("retry-after", "-5")], odd), None, "{odd}");
        }
        assert_eq!(wait(&[("retry-after", "1e300")], ""), Some(LONGEST_RETRY_AFTER));
    }

    #[test]
    fn the_date_header_tells_how_clocks_differ() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        let at = httpdate::parse_http_date(date).unwrap();
        let skew = |text: &str, now| {
            let mut headers = HeaderMap::new();
            headers.insert(header::DATE, text.parse().unwrap());
            skew_by(&headers, now)
        };
        assert_eq!(skew(date, at + Duration::from_millis(999)), Some(0.0), "less than the header can tell");
        assert_eq!(skew(date, at + Duration::from_secs(60)), Some(-59.5), "we are ahead");
        assert_eq!(skew(date, at - Duration::from_secs(60)), Some(60.5));
        assert_eq!(skew("soon", at), None);
        assert_eq!(skew_by(&HeaderMap::new(), at), None);
    }
}
