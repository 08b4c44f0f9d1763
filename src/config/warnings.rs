//! Settings that are allowed, and that an operator should know of: said at each start, by `serve --check`, and in `/status`.

use reqwest::Url;

use super::{Part, ServeConfig};
use crate::vobiz::SignaturePolicy;

/// How ids of Vobiz begin: a main account, a sub-account, a partner (documented).
const PREFIXES: [&str; 3] = ["MA_", "SA_", "PA_"];

impl ServeConfig {
    /// What of the settings is most likely not meant so, in words.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.parts.contains(&Part::Receive) {
            if self.policy == SignaturePolicy::Off {
                warnings.push(
                    "CDR_SIGNATURES=off: no callback is checked, so whoever reaches the public port can make this service ask Vobiz \
                     for calls; set CDR_CALLBACK_URL or CDR_CALLBACK_SECRET, and required"
                        .into(),
                );
            }
            warnings.extend(self.callback_urls.iter().filter_map(|url| not_served(url)));
        }
        let by_environment = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
            .into_iter()
            .find(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
        if let Some(name) = by_environment.filter(|_| self.proxy.is_none()) {
            warnings.push(format!(
                "{name} is set and not heeded: where the Vobiz API is behind a proxy, set VOBIZ_PROXY"
            ));
        }
        let mut ids: Vec<&str> = self
            .accounts
            .iter()
            .flat_map(|account| {
                [account.credentials.account_id.as_str(), account.credentials.auth_id.as_str()]
            })
            .filter(|id| !PREFIXES.iter().any(|prefix| id.starts_with(prefix)))
            .collect();
        ids.dedup();
        warnings.extend(ids.into_iter().map(|id| {
            format!(
                "{id:?} does not look like an account of Vobiz (MA_…, SA_… or PA_…): is it the Auth ID of the console?"
            )
        }));
        warnings
    }
}

/// A URL whose path this service does not take callbacks at. A proxy may rewrite it, so it is no mistake for certain.
fn not_served(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let segments: Vec<&str> = parsed.path_segments()?.collect();
    let behind = segments.strip_prefix(&["callbacks", "vobiz"]);
    let served = behind.is_some_and(|behind| match behind {
        [] | [_] => true,
        [one, _] => !one.is_empty(),
        [one, two, last] => !one.is_empty() && !two.is_empty() && last.is_empty(),
        _ => false,
    });
    (!served).then(|| {
        // The path may hold a secret, wherever it was put.
        let host = parsed.host_str().unwrap_or_default();
        format!(
            "CDR_CALLBACK_URL (at {host}): its path is none of this service's, which are /callbacks/vobiz, /callbacks/vobiz/SECRET and \
             /callbacks/vobiz/ACCOUNT/SECRET; right only where a proxy rewrites it"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_served_is_said_without_its_secret() {
        for path in ["", "/", "/secret123/", "?x=1"] {
            assert_eq!(not_served(&format!("https://a.example/callbacks/vobiz{path}")), None, "{path}");
        }
        assert_eq!(not_served("https://a.example/callbacks/vobiz/MA_1/secret123"), None);
        for url in [
            "https://a.example/callback/vobiz/secret123",
            "https://a.example",
            "https://a.example/callbacks/vobiz/a/b/secret123",
            "https://a.example/callbacks/vobiz//secret123",
        ] {
            let words = not_served(url).unwrap();
            assert!(words.contains("a.example") && !words.contains("secret123"), "{words}");
        }
    }
}
