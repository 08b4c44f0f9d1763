//! How a refused callback differs from what is configured, in words: an operator who wrote one letter of a URL otherwise than at
//! Vobiz sees which. Pure. No secret is shown: neither ours nor what stands in the place of one.

use http::{HeaderMap, Uri, header};

use crate::vobiz::plain;
use crate::vobiz::signature::base_url;
use crate::watch::arrivals::Refusal;

/// A segment of a path that is as long as a secret must be is not shown.
const SECRET_LENGTH: usize = 16;
/// Longest host or path that is shown, in characters.
const SHOWN: usize = 120;

/// Where a callback was sent: host (as far as the headers say) and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    host: Option<String>,
    path: String,
}

impl Destination {
    /// Where a request was sent. A proxy that names the host it was asked for is believed: this is for reading only.
    pub(super) fn of(headers: &HeaderMap, uri: &Uri) -> Self {
        let named = |name: header::HeaderName| {
            let value = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
            (!value.is_empty()).then(|| value.to_ascii_lowercase())
        };
        let host = named(header::HeaderName::from_static("x-forwarded-host"))
            .or_else(|| named(header::HOST))
            .or_else(|| uri.authority().map(ToString::to_string));
        Self { host, path: uri.path().to_owned() }
    }

    /// How it differs from the callback URLs as configured.
    pub(super) fn differs(&self, refusal: Refusal, configured: &[String]) -> String {
        let came = format!("the newest came to {}", self.shown());
        match refusal {
            Refusal::WrongPath => format!(
                "{came}: the paths of this service are /callbacks/vobiz, /callbacks/vobiz/SECRET and /callbacks/vobiz/ACCOUNT/SECRET"
            ),
            Refusal::WrongSecret => {
                format!(
                    "{came}: what stands in the place of the secret is not CDR_CALLBACK_SECRET, nor the callback_secret of the account \
                     that it names"
                )
            }
            Refusal::NoProof => format!("{came}, with neither a signature nor a secret in the path"),
            Refusal::Replayed => format!("{came}, signed with a nonce that had signed another call"),
            Refusal::NoAccount => format!("{came}, and names no account of the settings"),
            Refusal::WrongSignature => format!("{came}: {}", self.against(configured)),
        }
    }

    fn against(&self, configured: &[String]) -> String {
        let urls: Vec<Destination> = configured.iter().filter_map(|url| Self::configured(url)).collect();
        if urls.is_empty() {
            return "it is signed, and CDR_CALLBACK_URL is not set: a signature cannot be checked without it"
                .into();
        }
        if urls.iter().any(|url| url.host == self.host && url.path == self.path) {
            return "host and path are those of CDR_CALLBACK_URL, so the token differs (was it changed at Vobiz?), or scheme, \
                    port or final slash of the URL that is configured at Vobiz"
                .into();
        }
        let shown: Vec<String> = urls.iter().map(Self::shown).collect();
        let part = match (
            urls.iter().any(|url| url.host == self.host),
            urls.iter().any(|url| url.path == self.path),
        ) {
            (true, false) => "the path differs",
            (false, true) => "the host differs",
            _ => "host and path differ",
        };
        format!(
            "CDR_CALLBACK_URL says {}: {part} (a proxy in between may have changed them; what counts is the URL that is configured \
             at Vobiz, letter by letter)",
            shown.join(" and ")
        )
    }

    fn configured(url: &str) -> Option<Self> {
        let uri: Uri = base_url(url).parse().ok()?;
        Some(Self {
            host: uri.authority().map(|host| host.as_str().to_ascii_lowercase()),
            path: uri.path().to_owned(),
        })
    }

    /// Host and path, without what may be a secret and what a terminal would not like.
    fn shown(&self) -> String {
        let mut segments: Vec<&str> = self.path.split('/').collect();
        // …/callbacks/vobiz/SECRET and …/ACCOUNT/SECRET: the last one that is there is the secret.
        if segments.starts_with(&["", "callbacks", "vobiz"])
            && let Some(last) = segments.iter_mut().skip(3).rev().find(|segment| !segment.is_empty())
        {
            *last = "…";
        }
        for segment in &mut segments {
            if segment.chars().count() >= SECRET_LENGTH {
                *segment = "…";
            }
        }
        let host = self.host.as_deref().unwrap_or("");
        let cut = |text: &str| plain(&text.chars().take(SHOWN).collect::<String>()).into_owned();
        format!("{}{}", cut(host), cut(&segments.join("/")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(host: &str, path: &str) -> Destination {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        Destination::of(&headers, &path.parse().unwrap())
    }

    fn words(host: &str, path: &str, configured: &str) -> String {
        sent(host, path).differs(Refusal::WrongSignature, &[configured.to_owned()])
    }

    #[test]
    fn it_is_said_what_differs_from_the_configured_url() {
        let url = "https://cdr.example.com/callbacks/vobiz?x=1";
        for (host, path, said) in [
            ("cdr.example.org", "/callbacks/vobiz", "the host differs"),
            ("cdr.example.com", "/callbacks/vobiz/", "the path differs"),
            ("10.0.0.1:8080", "/vobiz", "host and path differ"),
            ("CDR.example.com", "/callbacks/vobiz?y=2", "so the token differs"),
        ] {
            let words = words(host, path, url);
            assert!(words.contains(said), "{host}{path}: {words}");
        }
        assert!(words("a", "/callbacks/vobiz", "").contains("CDR_CALLBACK_URL is not set"));
    }

    #[test]
    fn no_secret_is_shown_neither_ours_nor_one_that_was_mistyped() {
        let secret = "0123456789abcdef0123";
        for path in [
            format!("/callbacks/vobiz/{secret}"),
            format!("/callbacks/vobiz/MA_1/{secret}/"),
            format!("/callback/vobiz/{secret}"),
            "/callbacks/vobiz/short".to_owned(),
        ] {
            let words = sent("h", &path).differs(Refusal::WrongSecret, &[]);
            assert!(!words.contains(secret) && !words.contains("short"), "{words}");
        }
        let ours = format!("https://h/callbacks/vobiz/{secret}");
        assert!(!words("h", "/callbacks/vobiz", &ours).contains(secret));
        assert!(words("h", "/callbacks/vobiz", &ours).contains("h/callbacks/vobiz/…: the path differs"));
    }

    #[test]
    fn the_host_that_a_proxy_was_asked_for_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "10.0.0.7:8080".parse().unwrap());
        headers.insert("x-forwarded-host", "Hooks.example.com".parse().unwrap());
        let came = Destination::of(&headers, &"/callbacks/vobiz".parse().unwrap());
        assert_eq!(came.host.as_deref(), Some("hooks.example.com"));
        let long = sent("h", &format!("/a/{}", "b/".repeat(5000)));
        assert!(long.differs(Refusal::WrongPath, &[]).len() < 500);
    }
}
