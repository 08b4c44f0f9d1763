//! Did Vobiz send this callback? HMACs over URL and nonce (V2, V3), HMACs over the body (campaigns, trunks), and our own
//! secret path segment for what Vobiz does not sign. Nothing here says what a proven callback means: V2 and V3 do not
//! cover the body (documented), so a proof is worth one fetch with our own credentials and no more.
//!
//! Promise: every comparison of a secret or a signature takes the same time whatever differs, nothing a sender writes can
//! cause a panic, and `Debug` shows no secret.

use std::fmt;
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
    /// As optional, and what proves nothing is not counted as refused.
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
    /// Whether it is the parent's signature, on a callback that may be a sub-account's.
    pub fn is_of_parent(self) -> bool {
        matches!(self, Self::MaV3 | Self::MaV2)
    }

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
    /// Whose token made a signature that is not a main account's (an MA signature names the parent, not the caller); or whose own secret
    /// made it.
    pub account: Option<AccountId>,
    /// Whose tokens or secrets could have made it: it proves calls of these accounts and of their sub-accounts, and of no other one.
    pub signers: Signers,
    /// One of our secrets made it, not a token.
    pub by_secret: bool,
    /// The nonces whose signatures matched, each with its version (`v3:…`, `v2:…`); none for signatures over the body.
    pub nonces: Vec<String>,
}

/// The accounts that a proof can speak for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signers {
    /// All that are configured: the one secret of the environment.
    Any,
    /// These, and of a main account its sub-accounts.
    Of(Vec<AccountId>),
}

impl Signers {
    /// Whether a callback that names these accounts can be theirs. Which main account a sub-account is under, only the callback says, so
    /// each main account that it names must be one of them.
    pub fn speak_for(&self, named: &[AccountId]) -> bool {
        let Self::Of(signers) = self else { return true };
        let has_main = signers.iter().any(|signer| !signer.is_sub_account());
        named.iter().all(|account| signers.contains(account) || (has_main && account.is_sub_account()))
    }

    /// The account, where it is one.
    pub fn only(&self) -> Option<&AccountId> {
        match self {
            Self::Of(signers) => {
                signers.first().filter(|first| signers.iter().all(|signer| signer == *first))
            }
            Self::Any => None,
        }
    }
}

/// The tokens, secrets and URLs a callback is checked against.
pub struct Verifier {
    tokens: Vec<Token>,
    secrets: Vec<Secret>,
}

struct Secret {
    /// Whose it is; none is the one of the environment.
    account: Option<AccountId>,
    /// For signatures over the body.
    key: Hmac<Sha256>,
    /// For the path segment.
    digest: [u8; 32],
}

impl Secret {
    fn new(account: Option<AccountId>, secret: &SecretString) -> Option<Self> {
        Some(Self { account, key: key(secret)?, digest: Sha256::digest(secret.expose_secret()).into() })
    }

    fn signers(&self) -> Signers {
        self.account.clone().map_or(Signers::Any, |account| Signers::Of(vec![account]))
    }
}

struct Token {
    account: AccountId,
    /// All accounts that have this token: several, where they share one, as the customers of a partner do.
    owners: Vec<AccountId>,
    /// The key alone, for signatures over the body.
    key: Hmac<Sha256>,
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
        let token = |(account, token): &(AccountId, SecretString)| {
            let key = key(token)?;
            let same = tokens.iter().filter(|(_, other)| other.expose_secret() == token.expose_secret());
            let mut owners: Vec<AccountId> = same.map(|(owner, _)| owner.clone()).collect();
            owners.dedup();
            let urls = urls.iter().map(|url| key.clone().chain_update(url)).collect();
            Some(Token { account: account.clone(), owners, key, urls })
        };
        Self {
            tokens: tokens.iter().filter_map(token).collect(),
            secrets: secrets.iter().filter_map(|secret| Secret::new(None, secret)).collect(),
        }
    }

    /// The same, with secrets that accounts have of their own: each proves its account alone.
    #[must_use]
    pub fn with_account_secrets(mut self, secrets: &[(AccountId, SecretString)]) -> Self {
        let own = secrets.iter().filter_map(|(account, secret)| Secret::new(Some(account.clone()), secret));
        self.secrets.extend(own);
        self
    }

    /// Looks for a signature that one of our tokens, or for trunks one of our secrets, has made. (The endpoint asks step by step:
    /// [`Self::signed_url`] before there is a body, then [`Self::signed_body_of`] and [`Self::signed_body`].)
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Option<Proven> {
        self.signed_url(headers).or_else(|| {
            let signature = BodySignature::of(headers)?;
            self.signed_body_of(&signature, body, &[])
                .or_else(|| self.signed_body(&signature, body, 0..self.keys()))
        })
    }

    /// Whom a path segment speaks for, if it is one of our callback secrets. All of them are compared, in full.
    pub fn secret(&self, path_segment: &str) -> Option<Signers> {
        // Digests have one length, so not even that of the secret shows.
        let given: [u8; 32] = Sha256::digest(path_segment).into();
        let matches: Vec<Choice> = self.secrets.iter().map(|secret| secret.digest.ct_eq(&given)).collect();
        let ours = self.secrets.iter().zip(matches).filter(|(_, matches)| bool::from(*matches));
        // No two are equal: the settings see to it.
        ours.map(|(secret, _)| secret.signers()).next()
    }

    /// Looks for a signature over one of our URLs. It needs no body.
    pub fn signed_url(&self, headers: &HeaderMap) -> Option<Proven> {
        let mut proven: Option<Proven> = None;
        for version in [&V3, &V2] {
            let Some(nonce) = nonce(headers, version.nonce) else { continue };
            let signed = |header| self.signers_of_url(&signatures(headers, header), version.separator, nonce);
            // A main account's MA signature equals the plain one (captured): mostly the first check is the last.
            let own = signed(version.own);
            let (proof, signers) = if own.is_empty() {
                // It says that the parent signed: a token of a sub-account cannot.
                let mains = signed(version.main).into_iter().filter(|signer| !signer.is_sub_account());
                (version.main_proof, Signers::Of(mains.collect()))
            } else {
                (version.own_proof, Signers::Of(own))
            };
            if signers == Signers::Of(vec![]) {
                continue;
            }
            let account = signers.only().filter(|_| proof == version.own_proof).cloned();
            // A V2 that names the account completes an MA-V3 that does not, and its nonce counts as seen as well.
            let proven = proven.get_or_insert(Proven {
                proof,
                account: None,
                signers,
                by_secret: false,
                nonces: Vec::new(),
            });
            proven.account = proven.account.take().or(account);
            proven.nonces.push(format!("{}:{nonce}", version.name));
        }
        proven
    }

    /// Whose tokens signed: several, where accounts share one, as the customers of a partner do. None, where nobody did.
    fn signers_of_url(&self, signatures: &[[u8; 32]], separator: &str, nonce: &str) -> Vec<AccountId> {
        if signatures.is_empty() {
            return Vec::new();
        }
        let signs = |over_url: &Hmac<Sha256>| {
            let expected =
                over_url.clone().chain_update(separator).chain_update(nonce).finalize().into_bytes();
            // Constant time, each of them.
            signatures.iter().any(|signature| expected.as_slice().ct_eq(signature).into())
        };
        signers(self.tokens.iter().filter(|token| token.urls.iter().any(signs)))
    }

    /// How many keys [`Self::signed_body`] can be asked about.
    pub fn keys(&self) -> usize {
        self.tokens.len() + self.secrets.len()
    }

    /// Whether a token or secret of the accounts that a callback names, or the secret of all accounts, has signed its body: a few hashes,
    /// however many accounts there are.
    pub fn signed_body_of(
        &self,
        signature: &BodySignature,
        body: &[u8],
        named: &[AccountId],
    ) -> Option<Proven> {
        let tokens = self.tokens.iter().filter(|token| named.contains(&token.account));
        let secrets = self
            .secrets
            .iter()
            .filter(|secret| secret.account.as_ref().is_none_or(|account| named.contains(account)));
        signature.by_token(tokens, body).or_else(|| signature.by_secret(secrets, body))
    }

    /// Whether one of these tokens and secrets, by their numbers, has signed a body: a hash of all of it for each.
    pub fn signed_body(&self, signature: &BodySignature, body: &[u8], keys: Range<usize>) -> Option<Proven> {
        let tokens = self.tokens.iter().take(keys.end).skip(keys.start);
        let of_secrets = |number: usize| number.saturating_sub(self.tokens.len());
        let secrets = self.secrets.iter().take(of_secrets(keys.end)).skip(of_secrets(keys.start));
        signature.by_token(tokens, body).or_else(|| signature.by_secret(secrets, body))
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

    fn by_token<'a>(&self, mut tokens: impl Iterator<Item = &'a Token>, body: &[u8]) -> Option<Proven> {
        let token = tokens.find(|token| self.is_of(&token.key, body))?;
        Some(self.proven(Signers::Of(token.owners.clone()), false))
    }

    fn by_secret<'a>(&self, mut secrets: impl Iterator<Item = &'a Secret>, body: &[u8]) -> Option<Proven> {
        if self.proof != Proof::Trunk {
            return None;
        }
        let secret = secrets.find(|secret| self.is_of(&secret.key, body))?;
        Some(self.proven(secret.signers(), true))
    }

    fn proven(&self, signers: Signers, by_secret: bool) -> Proven {
        let account = signers.only().cloned();
        Proven { proof: self.proof, account, signers, by_secret, nonces: Vec::new() }
    }
}

fn signers<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<AccountId> {
    let mut signers: Vec<AccountId> = tokens.map(|token| token.account.clone()).collect();
    signers.dedup();
    signers
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

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
