use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;

use super::*;

const MAIN: &str = "tok_main_7f3c1a9e5b2d4860";
const URL: &str = "https://calls.example.com/vobiz/hangup";

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/data/vobiz/{name}")).unwrap()
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&sample(name)).unwrap()
}

fn account(id: &str) -> AccountId {
    AccountId::new(id).unwrap()
}

fn verifier(urls: &[&str], tokens: &[(&str, &str)], secrets: &[&str]) -> Verifier {
    let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
    let tokens: Vec<_> = tokens.iter().map(|(id, token)| (account(id), SecretString::from(*token))).collect();
    let secrets: Vec<_> = secrets.iter().map(|secret| SecretString::from(*secret)).collect();
    Verifier::new(&urls, &tokens, &secrets)
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    pairs.iter().map(pair).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

#[test]
fn every_url_vector_matches() {
    let vectors = json("signature_vectors.json");
    for vector in vectors["url_vectors"].as_array().unwrap() {
        let (url, token, nonce) =
            (text(vector, "callback_url"), text(vector, "auth_token"), text(vector, "nonce"));
        assert_eq!(base_url(url), text(vector, "base_url"));
        let parent = vector["parent_auth_token"].as_str();
        let known = [("SA_ONE", token), ("MA_MAIN", parent.unwrap_or("another"))];
        let verifier = verifier(&["https://elsewhere.example.com/", url], &known, &[]);
        for (header, proof, key) in [
            ("v3", Proof::V3, "v3"),
            ("v2", Proof::V2, "v2"),
            ("ma-v3", Proof::MaV3, "ma_v3"),
            ("ma-v2", Proof::MaV2, "ma_v2"),
        ] {
            let Some(signature) = vector[key].as_str() else { continue };
            let version = &header[header.len() - 2..];
            let headers = headers(&[
                (&format!("X-Vobiz-Signature-{header}"), signature),
                (&format!("X-Vobiz-Signature-{version}-Nonce"), nonce),
            ]);
            let expected = Proven {
                proof,
                account: (!key.starts_with("ma")).then(|| account("SA_ONE")),
                signers: Signers::Of(vec![account(if key.starts_with("ma") { "MA_MAIN" } else { "SA_ONE" })]),
                by_secret: false,
                nonces: vec![format!("{version}:{nonce}")],
            };
            assert_eq!(verifier.verify(&headers, b"any body"), Some(expected), "{vector} {header}");
        }
    }
}

#[test]
fn every_negative_vector_is_refused() {
    let vectors = json("signature_vectors.json");
    for vector in vectors["negative"].as_array().unwrap() {
        let verifier =
            verifier(&[text(vector, "callback_url")], &[("MA_MAIN", text(vector, "auth_token"))], &[]);
        let nonce_header = format!("{}-Nonce", text(vector, "header"));
        let headers = headers(&[
            (text(vector, "header"), text(vector, "value")),
            (&nonce_header, text(vector, "nonce")),
        ]);
        assert_eq!(verifier.verify(&headers, b""), None, "{vector}");
    }
    // V1 is read by nobody, whichever text it signs.
    for candidate in ["candidate_a", "candidate_b", "candidate_c"] {
        let value = text(&vectors["v1_candidates"][candidate], "value");
        let verifier = verifier(&[URL], &[("MA_MAIN", MAIN)], &[MAIN]);
        assert_eq!(
            verifier.verify(&headers(&[("X-Vobiz-Signature", value)]), &sample("hangup_outbound.form")),
            None
        );
    }
}

#[test]
fn every_body_vector_matches() {
    let vectors = json("signature_vectors.json");
    for vector in vectors["body_vectors"].as_array().unwrap() {
        let headers = headers(&[(text(vector, "header"), text(vector, "value"))]);
        let (secret, body) = (text(vector, "secret"), text(vector, "raw_body").as_bytes());
        let campaign = text(vector, "value").starts_with("sha256=");
        let proof = if campaign { Proof::Campaign } else { Proof::Trunk };
        let by_token = verifier(&[], &[("MA_OTHER", "x"), ("MA_MAIN", secret)], &[]).verify(&headers, body);
        assert_eq!(
            by_token,
            Some(Proven {
                proof,
                account: Some(account("MA_MAIN")),
                signers: Signers::Of(vec![account("MA_MAIN")]),
                by_secret: false,
                nonces: vec![]
            }),
            "{vector}"
        );
        // A campaign signs with a token, never with a secret of ours.
        let by_secret = verifier(&[], &[], &["x", secret]).verify(&headers, body);
        assert_eq!(
            by_secret,
            (!campaign).then(|| Proven {
                proof,
                account: None,
                signers: Signers::Any,
                by_secret: true,
                nonces: vec![]
            }),
            "{vector}"
        );
        // The secret of an account names it.
        let own = verifier(&[], &[], &["x"]).with_account_secrets(&[(account("MA_TWO"), secret.into())]);
        let own = own.verify(&headers, body).map(|proven| (proven.account, proven.by_secret));
        assert_eq!(own, (!campaign).then(|| (Some(account("MA_TWO")), true)), "{vector}");
        let other = [body, b" "].concat();
        assert_eq!(verifier(&[], &[("MA_MAIN", secret)], &[secret]).verify(&headers, &other), None);
    }
}

#[test]
fn every_captured_callback_proves_itself() {
    let mut proven = 0;
    for entry in json("index.json").as_array().unwrap() {
        let Some(file) = entry["headers_file"].as_str() else { continue };
        let captured = json(file);
        let pairs: Vec<_> = captured
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
            .collect();
        let headers = headers(&pairs);
        let body = sample(text(entry, "file"));
        let right = verifier(&[text(entry, "url")], &[("MA_TESTAB12", MAIN)], &[]).verify(&headers, &body);
        let expected = match text(entry, "kind") {
            "trunk_webhook" => None,
            "campaign_webhook" => Some(Proof::Campaign),
            _ => Some(Proof::V3),
        };
        assert_eq!(right.as_ref().map(|right| right.proof), expected, "{file}");
        if let Some(right) = right {
            assert_eq!(right.account, Some(account("MA_TESTAB12")), "{file}");
            assert_eq!(right.nonces.len(), if right.proof == Proof::V3 { 2 } else { 0 }, "{file}");
            proven += 1;
        }
        assert_eq!(
            verifier(&[text(entry, "url")], &[("MA_TESTAB12", "wrong")], &[]).verify(&headers, &body),
            None
        );
    }
    assert!(proven >= 5);
}

#[test]
fn an_own_signature_names_the_account_that_an_ma_signature_leaves_open() {
    let vectors = json("signature_vectors.json");
    let sub = &vectors["url_vectors"][4];
    let nonce = text(sub, "nonce");
    let verifier = verifier(&[URL], &[("SA_SUB", text(sub, "auth_token")), ("MA_MAIN", MAIN)], &[]);
    let headers = headers(&[
        ("x-vobiz-signature-ma-v3", text(sub, "ma_v3")),
        ("x-vobiz-signature-v3", "c3RhbGU="),
        ("x-vobiz-signature-v3-nonce", nonce),
        ("x-vobiz-signature-v2", text(sub, "v2")),
        ("x-vobiz-signature-v2-nonce", nonce),
    ]);
    let proven = verifier.verify(&headers, b"").unwrap();
    assert_eq!((proven.proof, proven.account), (Proof::MaV3, Some(account("SA_SUB"))));
    assert_eq!(proven.nonces, [format!("v3:{nonce}"), format!("v2:{nonce}")]);
}

const NONCE: &str = "12345678901234567890";
const GOOD_V3: &str = "OPWGvRTkoK4jgSuRkjjXjVNtxQogRZHufqHLx2qi9nc=";

fn v3(signature: &str, nonce: &str) -> HeaderMap {
    headers(&[("x-vobiz-signature-v3", signature), ("x-vobiz-signature-v3-nonce", nonce)])
}

#[test]
fn odd_headers_match_nothing() {
    let verifier = verifier(&[URL], &[("MA_MAIN", MAIN)], &["s"]);
    assert!(verifier.verify(&v3(GOOD_V3, NONCE), b"").is_some());
    assert!(verifier.verify(&v3(&format!("AAAA, {GOOD_V3} ,"), NONCE), b"").is_some());
    let long = "1".repeat(129);
    for nonce in ["", " ", "é", "a.b", "/1", "1\t2", &long] {
        assert_eq!(verifier.verify(&v3(GOOD_V3, nonce), b""), None, "{nonce:?}");
    }
    for signature in ["", ",", "é", "=", "AAAA", &GOOD_V3[..43], &",".repeat(5000)] {
        assert_eq!(verifier.verify(&v3(signature, NONCE), b""), None, "{signature:?}");
    }
    assert_eq!(verifier.verify(&headers(&[("x-vobiz-signature-v3", GOOD_V3)]), b""), None);
    // The nonce of the other version does not count.
    let mixed = headers(&[("x-vobiz-signature-v3", GOOD_V3), ("x-vobiz-signature-v2-nonce", NONCE)]);
    assert_eq!(verifier.verify(&mixed, b""), None);
    // A V3 signature is no V2 signature over a nonce that begins with the dot.
    let dot = format!(".{NONCE}");
    let disguised = headers(&[("x-vobiz-signature-v2", GOOD_V3), ("x-vobiz-signature-v2-nonce", &dot)]);
    assert_eq!(verifier.verify(&disguised, b""), None);
    for value in ["sha256=", "sha256=zz", "é", "sha256é", "0", &"0".repeat(64), &"0".repeat(65)] {
        assert_eq!(verifier.verify(&headers(&[("x-vobiz-signature", value)]), b""), None, "{value:?}");
    }
}

#[test]
fn an_empty_token_or_secret_opens_nothing() {
    let verifier = verifier(&[URL, ""], &[("MA_MAIN", "")], &[""]);
    let forged =
        |text: &[u8]| Hmac::<Sha256>::new_from_slice(b"").unwrap().chain_update(text).finalize().into_bytes();
    let over_url = STANDARD.encode(forged(format!("{URL}.1").as_bytes()));
    assert_eq!(verifier.verify(&v3(&over_url, "1"), b""), None);
    let over_body = hex::encode(forged(b"x"));
    assert_eq!(verifier.verify(&headers(&[("x-vobiz-signature", &over_body)]), b"x"), None);
    assert_eq!(verifier.secret(""), None);
}

#[test]
fn the_path_secret_is_one_of_ours() {
    let own =
        [(account("MA_MAIN"), "of the main one".into()), (account("SA_ONE"), "of the sub-account".into())];
    let verifier = verifier(&[], &[("MA_MAIN", MAIN)], &["current", "previous"]).with_account_secrets(&own);
    for (secret, signers) in [
        ("current", Signers::Any),
        ("previous", Signers::Any),
        ("of the main one", Signers::Of(vec![account("MA_MAIN")])),
        ("of the sub-account", Signers::Of(vec![account("SA_ONE")])),
    ] {
        assert_eq!(verifier.secret(secret), Some(signers));
    }
    for other in ["", "Current", "current\0", "currentprevious", MAIN] {
        assert_eq!(verifier.secret(other), None, "{other:?}");
    }
    assert_eq!(format!("{verifier:?}"), "Verifier { 1 tokens, 4 secrets }");
}

#[test]
fn a_main_account_speaks_for_itself_and_its_sub_accounts_and_a_sub_account_for_itself() {
    let [main, other, sub, its_sibling] = ["MA_ONE", "MA_TWO", "SA_ONE", "SA_TWO"].map(account);
    let (by_main, by_sub) = (Signers::Of(vec![main.clone()]), Signers::Of(vec![sub.clone()]));
    for (named, of_main, of_sub) in [
        (vec![], true, true),
        (vec![main.clone()], true, false),
        (vec![main.clone(), sub.clone()], true, false),
        (vec![sub], true, true),
        (vec![its_sibling], true, false),
        (vec![other.clone()], false, false),
        (vec![main, other], false, false),
    ] {
        assert_eq!((by_main.speak_for(&named), by_sub.speak_for(&named)), (of_main, of_sub), "{named:?}");
        assert!(Signers::Any.speak_for(&named));
    }
}

/// Whoever holds a sub-account's token could sign calls of its parent else, and of any other main account.
#[test]
fn the_token_of_a_sub_account_signs_for_no_parent() {
    for (version, header, nonce, separator) in [
        ("v3", "x-vobiz-signature-ma-v3", "x-vobiz-signature-v3-nonce", "."),
        ("v2", "x-vobiz-signature-ma-v2", "x-vobiz-signature-v2-nonce", ""),
    ] {
        let signed_by = |token: &str| {
            let mac =
                key(&token.into()).unwrap().chain_update(URL).chain_update(separator).chain_update("123");
            headers(&[(header, &STANDARD.encode(mac.finalize().into_bytes())), (nonce, "123")])
        };
        let verifier = verifier(&[URL], &[("SA_SUB", "tok_sub"), ("MA_MAIN", MAIN)], &[]);
        assert_eq!(verifier.verify(&signed_by("tok_sub"), b""), None, "{version}");
        let proven = verifier.verify(&signed_by(MAIN), b"").unwrap();
        assert_eq!(
            (proven.account, proven.signers),
            (None, Signers::Of(vec![account("MA_MAIN")])),
            "{version}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn one_changed_byte_proves_nothing(part in 0usize..3, at: prop::sample::Index, byte in 0x20u8..0x7f) {
        let mut parts = [URL.as_bytes().to_vec(), NONCE.as_bytes().to_vec(), GOOD_V3.as_bytes().to_vec()];
        let at = at.index(parts[part].len());
        prop_assume!(parts[part][at] != byte);
        parts[part][at] = byte;
        let [url, nonce, signature] = parts.map(|part| String::from_utf8(part).unwrap());
        let verifier = verifier(&[&url], &[("MA_MAIN", MAIN)], &[]);
        prop_assert_eq!(verifier.verify(&v3(&signature, &nonce), b""), None);
    }

    #[test]
    fn any_header_is_answered(value in prop::collection::vec(0x20u8..=0xff, 0..90), body: Vec<u8>) {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let names = [V3.own, V3.nonce, V2.main, V2.nonce, "x-vobiz-signature"];
        let headers: HeaderMap = names.map(|name| (HeaderName::from_static(name), value.clone())).into_iter().collect();
        prop_assert_eq!(verifier(&[URL], &[("MA_MAIN", MAIN)], &["s"]).verify(&headers, &body), None);
    }
}

#[test]
fn a_token_that_several_accounts_share_names_none_of_them() {
    let (one, two) = (AccountId::new("MA_ONE").unwrap(), AccountId::new("MA_TWO").unwrap());
    let token = SecretString::from("tok_partner");
    let url = URL.to_owned();
    let tokens = [(one.clone(), token.clone()), (two, token.clone())];
    let shared = Verifier::new(std::slice::from_ref(&url), &tokens, &[]);
    let alone = Verifier::new(&[url], &[(one.clone(), token.clone()), (one.clone(), token)], &[]);
    let mut headers = HeaderMap::new();
    let mac = key(&SecretString::from("tok_partner")).unwrap().chain_update(URL).chain_update(".123");
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    headers.insert("x-vobiz-signature-v3", signature.parse().unwrap());
    headers.insert("x-vobiz-signature-v3-nonce", "123".parse().unwrap());
    let proven = shared.verify(&headers, b"").unwrap();
    assert_eq!((proven.proof, proven.account), (Proof::V3, None));
    assert_eq!(alone.verify(&headers, b"").unwrap().account, Some(one));
}

#[test]
fn one_signature_over_a_body_that_is_not_too_long_is_looked_at() {
    let verifier = verifier(&[URL], &[("MA_OTHER", "x"), ("MA_MAIN", MAIN)], &["trunk"]);
    for secret in [MAIN, "trunk"] {
        let signature = |body: &[u8]| {
            hex::encode(key(&SecretString::from(secret)).unwrap().chain_update(body).finalize().into_bytes())
        };
        for (length, proves) in [(0, true), (LONGEST_SIGNED_BODY, true), (LONGEST_SIGNED_BODY + 1, false)] {
            let body = vec![b'x'; length];
            let right = signature(&body);
            let one = headers(&[("x-vobiz-signature", &right)]);
            assert_eq!(verifier.verify(&one, &body).is_some(), proves, "{secret} {length}");
            for several in [
                headers(&[("x-vobiz-signature", &right), ("x-vobiz-signature", &right)]),
                headers(&[("x-vobiz-signature", &format!("{right},{right}"))]),
                headers(&[("x-vobiz-signature", "AAAA"), ("x-vobiz-signature", &right)]),
            ] {
                assert_eq!(verifier.verify(&several, &body), None, "{secret} {length}");
            }
        }
    }
}

#[test]
fn the_named_account_is_asked_first_and_a_shared_token_names_none() {
    let verifier = verifier(&[], &[("MA_ONE", "one"), ("MA_TWO", "two"), ("MA_THREE", "two")], &["trunk"]);
    let signed = |secret: &str, named: &[&str]| {
        let hex = hex::encode(
            key(&SecretString::from(secret)).unwrap().chain_update(b"{}").finalize().into_bytes(),
        );
        let signature = BodySignature::of(&headers(&[("x-vobiz-signature", &hex)])).unwrap();
        let named: Vec<AccountId> = named.iter().map(|id| account(id)).collect();
        verifier.signed_body_of(&signature, b"{}", &named).map(|proven| proven.account)
    };
    assert_eq!(signed("one", &["MA_TWO", "MA_ONE"]), Some(Some(account("MA_ONE"))));
    assert_eq!(signed("one", &["MA_TWO"]), None);
    assert_eq!(signed("two", &["MA_THREE"]), Some(None));
    assert_eq!(signed("two", &[]), None);
    assert_eq!(signed("trunk", &["MA_ONE"]), Some(None));
}
