//! How Vobiz signs a voice callback, written from its documentation and independent of the checking side in this
//! crate, so that each can find the other's mistakes. V2 and V3 cover the URL without its query, and a nonce; never
//! the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use sha2::Sha256;

/// A callback URL as it is signed: without query and fragment, and otherwise as configured.
pub fn base_url(url: &str) -> &str {
    url.find(['?', '#']).map_or(url, |end| &url[..end])
}

/// `X-Vobiz-Signature-V2`, and `-MA-V2` with the parent's token.
pub fn v2(token: &str, url: &str, nonce: &str) -> String {
    hmac_base64(token, &[base_url(url), nonce])
}

/// `X-Vobiz-Signature-V3`, and `-MA-V3` with the parent's token.
pub fn v3(token: &str, url: &str, nonce: &str) -> String {
    hmac_base64(token, &[base_url(url), ".", nonce])
}

fn hmac_base64(key: &str, parts: &[&str]) -> String {
    // HMAC takes keys of every length; without a signature a callback is simply refused.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    for part in parts {
        mac.update(part.as_bytes());
    }
    STANDARD.encode(mac.finalize().into_bytes())
}

/// The whole set of headers that the captures show, for one delivery.
pub(super) fn headers(
    numbers: &mut StdRng,
    url: &str,
    token: &str,
    parent_token: &str,
) -> [(&'static str, String); 7] {
    let (nonce_2, nonce_3) = (nonce(numbers), nonce(numbers));
    // V1 has the size of an HMAC-SHA1, but what it signs is unpublished: a receiver must not rely on it.
    let mut v1 = [0; 20];
    numbers.fill_bytes(&mut v1);
    [
        ("x-vobiz-signature", STANDARD.encode(v1)),
        ("x-vobiz-signature-ma-v2", v2(parent_token, url, &nonce_2)),
        ("x-vobiz-signature-ma-v3", v3(parent_token, url, &nonce_3)),
        ("x-vobiz-signature-v2", v2(token, url, &nonce_2)),
        ("x-vobiz-signature-v2-nonce", nonce_2),
        ("x-vobiz-signature-v3", v3(token, url, &nonce_3)),
        ("x-vobiz-signature-v3-nonce", nonce_3),
    ]
}

/// 20 decimal digits.
fn nonce(numbers: &mut StdRng) -> String {
    format!("{:020}", numbers.random_range(0..100_000_000_000_000_000_000_u128))
}
