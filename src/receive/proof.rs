//! What a callback proves: by a signature, by the secret in its path, or not at all; and of whom.
//!
//! A signature covers no body, so its nonce decides as well, which is seen when the callback is committed (`db/queue/nonce.rs`).

use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::vobiz::SignaturePolicy;
use crate::vobiz::{AccountId, Callback, Proof, Proven, Signers, Verifier};
use crate::watch::arrivals::Refusal;

/// What the endpoint checks callbacks by; replaced as a whole by a reload.
#[derive(Debug)]
pub struct EndpointSettings {
    /// What a callback must prove.
    pub policy: SignaturePolicy,
    /// The configured accounts.
    pub accounts: Vec<AccountId>,
    /// The callback URLs as configured at Vobiz.
    pub urls: Vec<String>,
    /// Tokens, URLs and secrets.
    pub verifier: Verifier,
}

/// The account and the secret that the path of a request names.
#[derive(Default, Clone)]
pub(super) struct CallbackPath {
    pub(super) account: Option<AccountId>,
    has_secret: bool,
    /// Whom its secret speaks for, if it is one of ours.
    secret: Option<Signers>,
}

impl CallbackPath {
    /// What a path names; what is no path of a callback names nothing.
    pub(super) async fn of(parts: &mut Parts, settings: &EndpointSettings) -> Self {
        let segments: Vec<(String, String)> =
            Path::from_request_parts(parts, &()).await.map(|Path(segments)| segments).unwrap_or_default();
        let mut path = Self::default();
        for (name, value) in segments {
            match name.as_str() {
                "secret" => {
                    path.has_secret = true;
                    path.secret = settings.verifier.secret(&value);
                }
                _ => path.account = settings.configured(AccountId::new(&value).ok().as_ref()),
            }
        }
        path
    }

    /// Its secret is one of ours, though not yet that of the account whose call it is.
    pub(super) fn secret_is_ours(&self) -> bool {
        self.secret.is_some()
    }

    /// Why a callback to this path is refused, if nothing proves it.
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Refusal {
        if self.has_secret {
            Refusal::WrongSecret
        } else if headers.keys().any(|name| name.as_str().starts_with("x-vobiz-signature")) {
            Refusal::WrongSignature
        } else {
            Refusal::NoProof
        }
    }
}

/// The proof of a callback, and what it says of the account.
pub(super) struct Proved {
    pub(super) proof: Proof,
    /// Whose token or own secret made it.
    pub(super) account: Option<AccountId>,
    /// Whose call it is, where the callback names nobody.
    pub(super) fallback: Option<AccountId>,
    /// A secret made it, which proves any call to whoever knows it.
    pub(super) by_secret: bool,
    /// Hashes of the nonces that it was signed with.
    pub(super) nonces: Vec<Uuid>,
}

impl Proved {
    const NOTHING: Self =
        Self { proof: Proof::None, account: None, fallback: None, by_secret: false, nonces: Vec::new() };

    /// What a signature proves of a callback; nothing, where it speaks for other accounts than the callback is of.
    fn by_signature(
        settings: &EndpointSettings,
        path: &CallbackPath,
        said: &Callback,
        by: &Proven,
    ) -> Option<Self> {
        let named = |hint: &&AccountId| {
            // A parent that is named and not configured has not signed either.
            by.proof.is_of_parent() || settings.accounts.contains(*hint)
        };
        let named: Vec<AccountId> =
            said.accounts.iter().filter(named).chain(&path.account).cloned().collect();
        let fallback = by.signers.only().cloned();
        let speaks = by.account.is_some() || by.signers.speak_for(&named);
        let nonces = by.nonces.iter().map(hash).collect();
        speaks.then(|| Self {
            proof: by.proof,
            account: by.account.clone(),
            fallback,
            by_secret: by.by_secret,
            nonces,
        })
    }

    /// The same of the secret in the path. That of one account proves its calls; a sub-account's callbacks name its parent as well.
    fn by_path(path: &CallbackPath, said: &Callback) -> Option<Self> {
        let signers = path.secret.as_ref()?;
        let owner = signers.only();
        let is_sub_account = owner.is_some_and(AccountId::is_sub_account);
        let is_others =
            path.account.as_ref().is_some_and(|named| !signers.speak_for(std::slice::from_ref(named)))
                || (!is_sub_account && !signers.speak_for(&said.accounts));
        let account =
            owner.filter(|owner| path.account.as_ref().is_none_or(|named| named == *owner)).cloned();
        (!is_others).then_some(Self {
            proof: Proof::Secret,
            account,
            fallback: None,
            by_secret: true,
            nonces: Vec::new(),
        })
    }
}

/// A nonce has one length in the database, whatever a sender writes.
fn hash(nonce: &String) -> Uuid {
    let digest: [u8; 32] = Sha256::digest(nonce).into();
    Uuid::from_u128(u128::from_be_bytes(std::array::from_fn(|n| digest[n])))
}

impl EndpointSettings {
    /// What a callback proves by a signature that was found, or without one, by the policy. Whether its nonce is of another call shows
    /// when it is committed.
    pub(super) fn judge(
        &self,
        path: &CallbackPath,
        said: &Callback,
        by: Option<&Proven>,
        refusal: Refusal,
    ) -> Result<Proved, Refusal> {
        match by.and_then(|by| Proved::by_signature(self, path, said, by)) {
            Some(proved) => Ok(proved),
            None => self.without_signature(path, said, refusal),
        }
    }

    /// What a callback proves but for its signature.
    pub(super) fn without_signature(
        &self,
        path: &CallbackPath,
        said: &Callback,
        refusal: Refusal,
    ) -> Result<Proved, Refusal> {
        match Proved::by_path(path, said) {
            Some(proved) => Ok(proved),
            None if self.policy == SignaturePolicy::Required => Err(refusal),
            None => Ok(Proved::NOTHING),
        }
    }

    /// The account, if it is one of the settings.
    pub(super) fn configured(&self, account: Option<&AccountId>) -> Option<AccountId> {
        account.filter(|account| self.accounts.contains(*account)).cloned()
    }
}
