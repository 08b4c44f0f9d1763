//! Signatures. Promise: a callback is proven if, and only if, another's HMAC over the same text is in the header that says so.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use sha2::Sha256;

use crate::bounds::{Bounds, bounded};
use crate::vobiz::AccountId;
use crate::vobiz::signature::{Proof, Verifier, base_url};

const BOUNDS: Bounds = Bounds { bytes_per_byte: 64 };

/// Those of tests/data/vobiz/signature_vectors.json and of the inputs in corpus/signature.
const URLS: [&str; 2] =
    ["https://calls.example.com/vobiz/hangup", "https://calls.example.com:8443/vobiz/hangup"];
const TOKENS: [(&str, &str); 2] =
    [("MA_MAIN", "tok_main_7f3c1a9e5b2d4860"), ("SA_ONE", "tok_sub_91e04c77ab35d2f8")];
const SECRET: &str = "trunk_secret_5d1b9c3e7a2f4680";

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let tokens = TOKENS.map(|(id, token)| (AccountId::new(id).expect("an id"), SecretString::from(token)));
    Verifier::new(&URLS.map(str::to_owned), &tokens, &[SecretString::from(SECRET)])
});

/// Headers as HTTP writes them, an empty line, the body.
pub fn run(input: &[u8]) {
    let mut headers = HeaderMap::new();
    let mut rest = input;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
        let line = rest[..at].strip_suffix(b"\r").unwrap_or(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let body = rest;
    let proven = bounded(BOUNDS, input, |_| VERIFIER.verify(&headers, body));
    assert!(VERIFIER.secret(&String::from_utf8_lossy(body)).is_none() || body == SECRET.as_bytes());
    let is_in = |name: &str, wanted: &[String]| -> bool {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| wanted.iter().any(|wanted| value.trim() == wanted))
    };
    let over_url = |version: &str, separator: &str| -> Vec<(usize, String)> {
        let nonce =
            headers.get(format!("x-vobiz-signature-{version}-nonce")).and_then(|nonce| nonce.to_str().ok());
        let Some(nonce) = nonce else { return Vec::new() };
        let of = |token: usize| {
            URLS.map(|url| {
                (
                    token,
                    STANDARD.encode(mac(TOKENS[token].1, &format!("{}{separator}{nonce}", base_url(url)))),
                )
            })
        };
        [of(0), of(1)].concat()
    };
    let Some(proven) = proven else {
        // What is plainly signed is taken: one header of each kind, with a nonce of digits.
        for (version, separator) in [("v3", "."), ("v2", "")] {
            let nonce =
                headers.get_all(format!("x-vobiz-signature-{version}-nonce")).into_iter().collect::<Vec<_>>();
            let plain = matches!(nonce.as_slice(), [nonce] if nonce.len() <= 20 && !nonce.is_empty()
                && nonce.as_bytes().iter().all(u8::is_ascii_digit));
            let name = format!("x-vobiz-signature-{version}");
            let sole = headers.get_all(&name).into_iter().collect::<Vec<_>>();
            if let (true, [value]) = (plain, sole.as_slice()) {
                let signed = over_url(version, separator)
                    .into_iter()
                    .any(|(_, mac)| value.as_bytes() == mac.as_bytes());
                assert!(!signed, "a signature was not seen");
            }
        }
        return;
    };
    let named =
        |token: usize| proven.account.as_ref().is_none_or(|account| account.as_str() == TOKENS[token].0);
    let by = |name: &str, macs: Vec<(usize, String)>| macs.into_iter().any(|(_, mac)| is_in(name, &[mac]));
    let body_macs = |prefix: &str| -> Vec<String> {
        let keys = TOKENS.map(|(_, token)| token).into_iter().chain([SECRET]);
        keys.map(|key| format!("{prefix}{}", hex::encode(mac_of_bytes(key, body)))).collect()
    };
    let says = |prefix: &str| {
        let values = headers.get_all("x-vobiz-signature").into_iter().filter_map(|value| value.to_str().ok());
        let wanted = body_macs(prefix);
        values
            .flat_map(|value| value.split(','))
            .any(|value| wanted.iter().any(|wanted| value.trim().eq_ignore_ascii_case(wanted)))
    };
    let signed = match proven.proof {
        Proof::V3 => by("x-vobiz-signature-v3", over_url("v3", ".")),
        Proof::MaV3 => by("x-vobiz-signature-ma-v3", over_url("v3", ".")),
        Proof::V2 => by("x-vobiz-signature-v2", over_url("v2", "")),
        Proof::MaV2 => by("x-vobiz-signature-ma-v2", over_url("v2", "")),
        Proof::Campaign => says("sha256="),
        Proof::Trunk => says(""),
        Proof::Secret | Proof::None => false,
    };
    assert!(signed, "{proven:?} of a header that nobody signed");
    assert!(named(0) || named(1));
    if let Some(account) = &proven.account {
        // Whoever is named has signed something of it.
        let token = usize::from(account.as_str() != TOKENS[0].0);
        let of = |macs: Vec<(usize, String)>| {
            macs.into_iter().filter(|(by, _)| *by == token).map(|(_, mac)| mac).collect::<Vec<_>>()
        };
        let signs_body = [hex::encode(mac_of_bytes(TOKENS[token].1, body))];
        let in_body = headers.get_all("x-vobiz-signature").into_iter().any(|value| {
            value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains(&signs_body[0]))
        });
        assert!(
            is_in("x-vobiz-signature-v3", &of(over_url("v3", ".")))
                || is_in("x-vobiz-signature-v2", &of(over_url("v2", "")))
                || is_in("x-vobiz-signature-ma-v3", &of(over_url("v3", ".")))
                || is_in("x-vobiz-signature-ma-v2", &of(over_url("v2", "")))
                || in_body,
            "{account} has signed nothing"
        );
    }
}

fn mac(key: &str, text: &str) -> Vec<u8> {
    mac_of_bytes(key, text.as_bytes())
}

fn mac_of_bytes(key: &str, text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}
