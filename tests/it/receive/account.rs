//! Whose call it is.

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, Setup, TOKEN, URL};

const OTHER: &str = "MA_OTHER001";
const OTHER_TOKEN: &str = "tok_other";

#[tokio::test]
async fn a_sub_account_is_known_by_its_token() {
    let database = Database::new().await;
    let setup = Setup {
        accounts: vec!["MA_MAIN", "SA_SUB"],
        tokens: vec![("MA_MAIN", "main"), ("SA_SUB", "sub")],
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    let callback = |call_id: &str, nonce: &str| {
        Callback::post(format!("Event=Hangup&CallUUID={call_id}&ParentAuthID=MA_MAIN"))
            .signed("ma-v3", "main", URL, nonce)
            .header("X-Vobiz-Signature-V2-Nonce", &format!("2{nonce}"))
    };
    let both = callback("a", "1").signed("v3", "sub", URL, "1");
    assert_eq!(endpoint.status(both).await, 200);
    // The parent's own call: MA equals plain.
    assert_eq!(endpoint.status(callback("b", "2").signed("v3", "main", URL, "2")).await, 200);
    // A V3 that nobody made beside a good MA-V3: the parent, and not proven.
    assert_eq!(endpoint.status(callback("c", "3").signed("v3", "stranger", URL, "3")).await, 200);
    assert_eq!(
        database.queue().await,
        ["a SA_SUB certain proven", "b MA_MAIN certain proven", "c MA_MAIN certain"]
    );
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_sub_account_that_is_not_configured_goes_to_its_parent() {
    let database = Database::new().await;
    let setup = Setup {
        accounts: vec!["MA_MAIN", OTHER],
        tokens: vec![("MA_MAIN", "main"), (OTHER, OTHER_TOKEN)],
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    let callback = Callback::post("Event=Hangup&CallUUID=a&ParentAuthID=MA_MAIN&AccountId=SA_SUB")
        .signed("v3", "sub", URL, "1")
        .signed("ma-v3", "main", URL, "1");
    assert_eq!(endpoint.status(callback).await, 200);
    assert_eq!(database.log().await, ["Hangup a MA_MAIN ma-v3 owed"]);
    assert_eq!(database.queue().await, ["a MA_MAIN certain"]);
    // The sub-account's own signature alone is known to nobody.
    assert_eq!(endpoint.status(Callback::hangup("b").by_v3("sub")).await, 403);
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn a_call_of_nobody_knows_whom_is_logged_and_not_owed() {
    let database = Database::new().await;
    let setup = Setup {
        accounts: vec![ACCOUNT, OTHER],
        tokens: vec![(ACCOUNT, TOKEN), (OTHER, OTHER_TOKEN)],
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    for body in [
        "Event=Hangup&CallUUID=a",
        "Event=Hangup&CallUUID=a&ParentAuthID=MA_STRANGER",
        "Event=Hangup&CallUUID=a&ParentAuthID=ma_testab12",
        "Event=Hangup&CallUUID=a&ParentAuthID=..%2F",
    ] {
        assert_eq!(endpoint.status(Callback::post(body).by_secret()).await, 200, "{body}");
    }
    assert_eq!(database.log().await, ["Hangup a - secret logged"; 4]);
    assert_eq!(
        database.text("select distinct note from vobiz.callback").await,
        "it names no configured account: add it to the accounts, or name it in the path"
    );
    // The first hint that is configured decides.
    for (call_id, hints) in [
        ("b", "ParentAuthID=MA_OTHER001"),
        ("c", "ParentAuthID=MA_STRANGER&AccountId=MA_OTHER001"),
        ("d", "auth_id=MA_OTHER001&account_id=MA_TESTAB12"),
        ("e", "account_id=MA_OTHER001"),
    ] {
        let callback = Callback::post(format!("Event=Hangup&CallUUID={call_id}&{hints}"));
        assert_eq!(endpoint.status(callback.by_secret()).await, 200, "{hints}");
    }
    assert_eq!(
        database.queue().await,
        ["b", "c", "d", "e"].map(|call_id| format!("{call_id} {OTHER} certain"))
    );
    // A token outdoes what the body says.
    let callback = Callback::post(format!("Event=Hangup&CallUUID=f&ParentAuthID={OTHER}"));
    assert_eq!(endpoint.status(callback.by_v3(TOKEN)).await, 200);
    assert_eq!(database.queue().await[4], format!("f {ACCOUNT} certain proven"));
    database.every_certain_call_is_somewhere().await;
}
