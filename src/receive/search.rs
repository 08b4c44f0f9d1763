//! Whose token or secret signed a body: the accounts that the callback names are asked first. Those of all others cost a hash of the body each, so
//! there is one such search at a time, and it lets others have their turn: a stranger's signature keeps nobody waiting.

use std::time::Duration;

use axum::response::Response;
use tokio::sync::Semaphore;

use super::unavailable;
use crate::vobiz::signature::{BodySignature, Proven};
use crate::vobiz::{AccountId, Verifier};

/// So many hashes of a body at once.
const STEP: usize = 8;
/// Who waits longer for a search is told to come again.
const WAIT: Duration = Duration::from_secs(1);

/// The one search.
#[derive(Debug)]
pub(super) struct Search(Semaphore);

impl Default for Search {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Search {
    /// Looks for who signed a body.
    pub(super) async fn run(
        &self,
        verifier: &Verifier,
        signature: &BodySignature,
        body: &[u8],
        named: Vec<AccountId>,
    ) -> Result<Option<Proven>, Response> {
        let by_named = verifier.signed_body_of(signature, body, &named);
        if by_named.is_some() {
            return Ok(by_named);
        }
        let Ok(Ok(_turn)) = tokio::time::timeout(WAIT, self.0.acquire()).await else {
            return Err(unavailable());
        };
        for first in (0..verifier.keys()).step_by(STEP) {
            let found = verifier.signed_body(signature, body, first..verifier.keys().min(first + STEP));
            if found.is_some() {
                return Ok(found);
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, StatusCode};
    use hmac::{Hmac, KeyInit, Mac};
    use secrecy::SecretString;
    use sha2::Sha256;

    use super::*;

    const BODY: &[u8] = b"{}";

    fn id(n: usize) -> AccountId {
        AccountId::new(&format!("MA_{n}")).unwrap()
    }

    /// A body signed with the token of an account, in both ways.
    fn signatures(account: usize) -> [BodySignature; 2] {
        let key = Hmac::<Sha256>::new_from_slice(format!("token {account}").as_bytes()).unwrap();
        let hex = hex::encode(key.chain_update(BODY).finalize().into_bytes());
        ["", "sha256="].map(|prefix| {
            let mut headers = HeaderMap::new();
            headers.insert("x-vobiz-signature", format!("{prefix}{hex}").parse().unwrap());
            BodySignature::of(&headers).unwrap()
        })
    }

    #[tokio::test]
    async fn a_named_account_waits_for_no_search_and_others_wait_for_one() {
        let tokens: Vec<_> = (0..300).map(|n| (id(n), SecretString::from(format!("token {n}")))).collect();
        let (verifier, search) = (Verifier::new(&[], &tokens, &[]), Search::default());
        let found = |account, named: Vec<AccountId>| {
            let (verifier, search) = (&verifier, &search);
            async move {
                let mut found = Vec::new();
                for signature in signatures(account) {
                    let run = search.run(verifier, &signature, BODY, named.clone()).await;
                    found.push(run.map(|by| by.and_then(|by| by.account)).map_err(|answer| answer.status()));
                }
                found
            }
        };
        for account in [0, 7, 8, 299] {
            assert_eq!(found(account, vec![]).await, vec![Ok(Some(id(account))); 2]);
            assert_eq!(found(account, vec![id(5)]).await, vec![Ok(Some(id(account))); 2]);
        }
        assert_eq!(found(300, vec![id(5)]).await, [Ok(None), Ok(None)]);
        // While another searches.
        let _turn = search.0.acquire().await.unwrap();
        assert_eq!(found(299, vec![id(299)]).await, vec![Ok(Some(id(299))); 2]);
        assert_eq!(found(299, vec![id(5)]).await, vec![Err(StatusCode::SERVICE_UNAVAILABLE); 2]);
    }
}
