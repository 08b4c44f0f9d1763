//! Did Vobiz send this callback? HMACs over URL and nonce (V2, V3), HMACs over the body (campaigns, trunks), and our own
//! secret path segment for what Vobiz does not sign. Nothing here says what a proven callback means: V2 and V3 do not
//! cover the body (documented), so a proof is worth one fetch with our own credentials and no more.
//!
//! Promise: every comparison of a secret or a signature takes the same time whatever differs, nothing a sender writes can
//! cause a panic, and `Debug` shows no secret.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::AccountId;

/// What a callback must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignaturePolicy {
    /// A signature or the secret path; else 403.
    Required,
    /// Unproven callbacks are taken, as speculative.
    Optional,
    /// Nothing is checked; every call is speculative.
    Off,
}

/// What proved a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// `X-Vobiz-Signature-V3` (documented, captured).
    V3,
    /// `X-Vobiz-Signature-MA-V3`: the same with the main account's token (documented, captured).
    MaV3,
    /// `X-Vobiz-Signature-V2` (documented, captured).
    V2,
    /// `X-Vobiz-Signature-MA-V2` (documented, captured).
    MaV2,
    /// `X-Vobiz-Signature` in bare hex over the body (documented for trunks, header and secret unconfirmed).
    Trunk,
    /// `X-Vobiz-Signature: sha256=…` over the body (documented for campaigns).
    Campaign,
    /// The secret segment in the path.
    Secret,
    /// Nothing.
    None,
}

impl Proof {
    /// The word for logs and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "v3",
            Self::MaV3 => "ma-v3",
            Self::V2 => "v2",
            Self::MaV2 => "ma-v2",
            Self::Trunk => "trunk",
            Self::Campaign => "campaign",
            Self::Secret => "secret",
            Self::None => "none",
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A signature that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The first that matched of V3, MA-V3, V2, MA-V2, campaign, trunk.
    pub proof: Proof,
    /// Whose token made a signature that is not a main account's (an MA signature names the parent, not the caller).
    pub account: Option<AccountId>,
    /// The nonces whose signatures matched, each with its version (`v3:…`, `v2:…`); none for signatures over the body.
    pub nonces: Vec<String>,
}

/// The tokens, secrets and URLs a callback is checked against.
pub struct Verifier {
    tokens: Vec<Token>,
    /// Keys for signatures over the body, and digests for the path segment.
    secrets: Vec<(Hmac<Sha256>, [u8; 32])>,
}

struct Token {
    account: AccountId,
    /// The key alone, for signatures over the body.
    key: Hmac<Sha256>,
    /// Another account has the same token.
    shared: bool,
    /// The key with each URL already taken in; the nonce follows.
    urls: Vec<Hmac<Sha256>>,
}

/// More signatures over a URL than this in one header are not looked at.
const MOST_SIGNATURES: usize = 8;

/// No longer body is hashed. A captured callback has 674 bytes.
pub const LONGEST_SIGNED_BODY: usize = 16 * 1024;

impl Verifier {
    /// Prepares all keys once.
    ///
    /// `urls`: the callback URLs as configured at Vobiz; query and fragment are cut off, nothing else is touched.
    /// `tokens`: current and previous auth tokens of all accounts. `secrets`: current and previous callback secret, for
    /// the path segment and for trunk signatures. Empty ones are left out: an empty key is no secret.
    pub fn new(urls: &[String], tokens: &[(AccountId, SecretString)], secrets: &[SecretString]) -> Self {
        let urls: Vec<_> = urls.iter().map(|url| base_url(url)).filter(|url| !url.is_empty()).collect();
        let of_another = |account: &AccountId, token: &SecretString| {
            let same = |other: &SecretString| other.expose_secret() == token.expose_secret();
            tokens.iter().any(|(other, others)| other != account && same(others))
        };
        let token = |(account, token): &(AccountId, SecretString)| {
            let key = key(token)?;
            let urls = urls.iter().map(|url| key.clone().chain_update(url)).collect();
            Some(Token { account: account.clone(), key, shared: of_another(account, token), urls })
        };
        let secret =
            |secret: &SecretString| Some((key(secret)?, Sha256::digest(secret.expose_secret()).into()));
        Self {
            tokens: tokens.iter().filter_map(token).collect(),
            secrets: secrets.iter().filter_map(secret).collect(),
        }
    }

    /// Looks for a signature that one of our tokens, or for trunks one of our secrets, has made. (The endpoint asks step by step:
    /// [`Self::signed_url`] before there is a body, then [`Self::signed_body_of`] and [`Self::signed_body`].)
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Option<Proven> {
        self.signed_url(headers).or_else(|| {
            let signature = BodySignature::of(headers)?;
            self.signed_body_of(&signature, body, &[])
                .or_else(|| self.signed_body(&signature, body, 0..self.tokens()))
        })
    }

    /// Whether a path segment is one of our callback secrets. All of them are compared, in full.
    pub fn is_secret(&self, path_segment: &str) -> bool {
        // Digests have one length, so not even that of the secret shows.
        let given: [u8; 32] = Sha256::digest(path_segment).into();
        let matches =
            self.secrets.iter().fold(Choice::from(0), |any, (_, digest)| any | digest.ct_eq(&given));
        matches.into()
    }

    /// Looks for a signature over one of our URLs. It needs no body.
    pub fn signed_url(&self, headers: &HeaderMap) -> Option<Proven> {
        let mut proven: Option<Proven> = None;
        for version in [&V3, &V2] {
            let Some(nonce) = nonce(headers, version.nonce) else { continue };
            let signed = |header| self.signer_of_url(&signatures(headers, header), version.separator, nonce);
            // A main account's MA signature equals the plain one (captured): mostly the first check is the last.
            let own = signed(version.own);
            let (proof, account) = match own {
                Some(by) => (version.own_proof, by.account()),
                None if signed(version.main).is_some() => (version.main_proof, None),
                None => continue,
            };
            // A V2 that names the account completes an MA-V3 that does not, and its nonce counts as seen as well.
            let proven = proven.get_or_insert(Proven { proof, account: None, nonces: Vec::new() });
            proven.account = proven.account.take().or(account.cloned());
            proven.nonces.push(format!("{}:{nonce}", version.name));
        }
        proven
    }

    /// Whose token signed, if any.
    fn signer_of_url(&self, signatures: &[[u8; 32]], separator: &str, nonce: &str) -> Option<Signer<'_>> {
        if signatures.is_empty() {
            return None;
        }
        let signs = |over_url: &Hmac<Sha256>| {
            let expected =
                over_url.clone().chain_update(separator).chain_update(nonce).finalize().into_bytes();
            // Constant time, each of them.
            signatures.iter().any(|signature| expected.as_slice().ct_eq(signature).into())
        };
        Signer::of(self.tokens.iter().filter(|token| token.urls.iter().any(signs)))
    }

    /// How many tokens [`Self::signed_body`] can be asked about.
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// Whether the tokens of the accounts that a callback names, or for a trunk one of our secrets, have signed its body: a few hashes,
    /// however many accounts there are.
    pub fn signed_body_of(
        &self,
        signature: &BodySignature,
        body: &[u8],
        named: &[AccountId],
    ) -> Option<Proven> {
        let tokens = self.tokens.iter().filter(|token| named.contains(&token.account));
        signature.by_one_of(tokens, body).or_else(|| {
            let by_secret = signature.proof == Proof::Trunk
                && self.secrets.iter().any(|(key, _)| signature.is_of(key, body));
            by_secret.then_some(Proven { proof: Proof::Trunk, account: None, nonces: Vec::new() })
        })
    }

    /// Whether one of these tokens, by their numbers, has signed a body: a hash of all of it for each.
    pub fn signed_body(
        &self,
        signature: &BodySignature,
        body: &[u8],
        tokens: Range<usize>,
    ) -> Option<Proven> {
        signature.by_one_of(self.tokens.get(tokens).unwrap_or_default().iter(), body)
    }
}

/// The signature over its body that a callback claims to have: the only value of `X-Vobiz-Signature`.
#[derive(Debug, Clone, Copy)]
pub struct BodySignature {
    proof: Proof,
    signature: [u8; 32],
}

impl BodySignature {
    /// Reads it, before there is a body. What V1 signs is unpublished, so the 20 bytes in base64 of a voice callback are none. Several
    /// values are none either: each would cost a hash of the body, and Vobiz sends one (captured).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("x-vobiz-signature").into_iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let value = value.to_str().ok()?.trim();
        let (proof, hex) = match value.split_at_checked(7) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("sha256=") => (Proof::Campaign, rest),
            _ => (Proof::Trunk, value),
        };
        let mut signature = [0; 32];
        hex::decode_to_slice(hex, &mut signature).ok()?;
        Some(Self { proof, signature })
    }

    fn is_of(&self, key: &Hmac<Sha256>, body: &[u8]) -> bool {
        body.len() <= LONGEST_SIGNED_BODY && is(key.clone().chain_update(body), &self.signature)
    }

    fn by_one_of<'a>(&self, mut tokens: impl Iterator<Item = &'a Token>, body: &[u8]) -> Option<Proven> {
        let token = tokens.find(|token| self.is_of(&token.key, body))?;
        let account = (!token.shared).then(|| token.account.clone());
        Some(Proven { proof: self.proof, account, nonces: Vec::new() })
    }
}

/// Whose token it was.
#[derive(Clone, Copy, PartialEq)]
enum Signer<'a> {
    One(&'a AccountId),
    /// Several accounts share the token, as the customers of a partner do: it names none of them.
    Several,
}

impl<'a> Signer<'a> {
    fn of(tokens: impl Iterator<Item = &'a Token>) -> Option<Self> {
        tokens
            .map(|token| Self::One(&token.account))
            .reduce(|one, other| if one == other { one } else { Self::Several })
    }

    fn account(self) -> Option<&'a AccountId> {
        match self {
            Self::One(account) => Some(account),
            Self::Several => None,
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tokens, secrets } = self;
        write!(f, "Verifier {{ {} tokens, {} secrets }}", tokens.len(), secrets.len())
    }
}

struct SignatureVersion {
    name: &'static str,
    own: &'static str,
    main: &'static str,
    nonce: &'static str,
    separator: &'static str,
    own_proof: Proof,
    main_proof: Proof,
}

const V3: SignatureVersion = SignatureVersion {
    name: "v3",
    own: "x-vobiz-signature-v3",
    main: "x-vobiz-signature-ma-v3",
    nonce: "x-vobiz-signature-v3-nonce",
    separator: ".",
    own_proof: Proof::V3,
    main_proof: Proof::MaV3,
};

const V2: SignatureVersion = SignatureVersion {
    name: "v2",
    own: "x-vobiz-signature-v2",
    main: "x-vobiz-signature-ma-v2",
    nonce: "x-vobiz-signature-v2-nonce",
    separator: "",
    own_proof: Proof::V2,
    main_proof: Proof::MaV2,
};

/// A callback URL as Vobiz signs it: without query and fragment, otherwise as it is (documented; port, final slash and
/// percent-encoding count).
pub fn base_url(url: &str) -> &str {
    url.find(['?', '#']).map_or(url, |end| &url[..end])
}

fn key(secret: &SecretString) -> Option<Hmac<Sha256>> {
    let secret = secret.expose_secret();
    // HMAC takes a key of any length.
    if secret.is_empty() { None } else { Hmac::new_from_slice(secret.as_bytes()).ok() }
}

fn is(expected: Hmac<Sha256>, signature: &[u8; 32]) -> bool {
    // Constant time, by the hmac crate's promise.
    expected.verify_slice(signature).is_ok()
}

/// The values of a header, split at commas; what is not visible ASCII is left out.
fn texts<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).take(MOST_SIGNATURES)
}

fn signatures(headers: &HeaderMap, name: &'static str) -> Vec<[u8; 32]> {
    texts(headers, name).filter_map(|text| STANDARD.decode(text).ok()?.try_into().ok()).collect()
}

/// Captured nonces are 20 digits. Letters, `-` and `_` are taken too, but no `.` and no `/`: with them one signature could
/// be read as V3 or V2, or over a longer or shorter URL, and each reading would make the same request look new.
fn nonce<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    let nonce = headers.get(name)?.to_str().ok()?;
    let plain = nonce.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (plain && (1..=128).contains(&nonce.len())).then_some(nonce)
}

/// Remembers which call a nonce came with, because a captured request verifies for ever: with another call in its body
/// it proves nothing. Bounded: two generations, the older one forgotten when the younger is full.
#[derive(Debug)]
pub struct Nonces {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
    // Seeded per process: nobody outside can choose texts that collide.
    hasher: RandomState,
    generation: usize,
}

impl Nonces {
    /// Room for the last 65,536 to 131,072 nonces, about 4 MiB when full.
    pub fn new() -> Self {
        Self::with_generation(65_536)
    }

    fn with_generation(generation: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), hasher: RandomState::new(), generation }
    }

    /// Whether one of a callback's nonces ([`Proven::nonces`]) has come before with another call. All of them are
    /// remembered; the call that came first keeps its nonce.
    pub fn seen_with_another_call(&mut self, nonces: &[String], call_id: &str) -> bool {
        let call = self.hasher.hash_one(call_id);
        let mut another = false;
        for nonce in nonces {
            let nonce = self.hasher.hash_one(nonce);
            let first = self.young.get(&nonce).or_else(|| self.old.get(&nonce)).copied();
            another |= first.is_some_and(|first| first != call);
            self.young.insert(nonce, first.unwrap_or(call));
            if self.young.len() >= self.generation {
                self.old = std::mem::take(&mut self.young);
            }
        }
        another
    }
}

impl Default for Nonces {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
