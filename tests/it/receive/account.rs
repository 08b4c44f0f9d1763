//! Whose call it is.

use crate::support::database::{ACCOUNT, Database};
use crate::support::endpoint::{Callback, PATH, Setup, TOKEN, URL};

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

/// A sub-account's holder is another customer: with the parent's name in the body, and a signature that only the parent can make.
#[tokio::test]
async fn the_token_of_a_sub_account_proves_nothing_of_its_parent() {
    let database = Database::new().await;
    let setup = Setup {
        accounts: vec!["MA_MAIN", OTHER, "SA_SUB"],
        tokens: vec![("MA_MAIN", "main"), (OTHER, OTHER_TOKEN), ("SA_SUB", "sub")],
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    let says = |call_id: &str, account: &str| {
        Callback::post(format!("Event=Hangup&CallUUID={call_id}&ParentAuthID={account}"))
    };
    for (nonce, version, token, parent, status) in [
        ("1", "ma-v3", "sub", "MA_MAIN", 403),
        ("2", "ma-v2", "sub", "MA_MAIN", 403),
        // A main account signs for itself alone.
        ("3", "ma-v3", OTHER_TOKEN, "MA_MAIN", 403),
        ("4", "ma-v3", "main", "MA_STRANGER", 403),
        // Nor where nobody is named, or it itself: the header says that a main account signed.
        ("10", "ma-v3", "sub", "", 403),
        ("11", "ma-v2", "sub", "SA_SUB", 403),
        ("5", "ma-v3", "main", "MA_MAIN", 200),
        ("6", "ma-v2", OTHER_TOKEN, OTHER, 200),
        // Its own signature proves its own calls.
        ("7", "v3", "sub", "MA_MAIN", 200),
    ] {
        let callback = says(&format!("call-{nonce}"), parent).signed(version, token, URL, nonce);
        assert_eq!(endpoint.status(callback).await, status, "{nonce}");
    }
    assert_eq!(
        database.queue().await,
        ["call-5 MA_MAIN certain", "call-6 MA_OTHER001 certain", "call-7 SA_SUB certain proven"]
    );
    // Nor does it move a call of its parent's.
    assert_eq!(endpoint.status(says("call-5", "MA_MAIN").signed("v3", "sub", URL, "8")).await, 200);
    assert_eq!(endpoint.status(says("call-8", "MA_MAIN").by_secret()).await, 200);
    assert_eq!(endpoint.status(says("call-8", "MA_MAIN").signed("v3", "sub", URL, "9")).await, 200);
    let both =
        "select string_agg(concat_ws(' ', call_id, account_id, other_account_id), ', ' order by call_id)
                from vobiz.cdr_queue where call_id in ('call-5', 'call-8')";
    assert_eq!(database.text(both).await, "call-5 MA_MAIN SA_SUB, call-8 MA_MAIN SA_SUB");
    database.every_certain_call_is_somewhere().await;
}

#[tokio::test]
async fn the_secret_of_an_account_proves_it_and_its_sub_accounts_and_no_other_one() {
    let database = Database::new().await;
    let setup = Setup {
        accounts: vec!["MA_MAIN", OTHER, "SA_SUB", "SA_TWO"],
        tokens: vec![],
        secrets: vec!["of-all"],
        account_secrets: vec![("MA_MAIN", "of-main"), (OTHER, "of-other"), ("SA_SUB", "of-sub")],
        ..Setup::default()
    };
    let endpoint = setup.open(&database.pool);
    for (call_id, says, path, status) in [
        ("a", "", "/of-main", 200),
        ("b", "&ParentAuthID=MA_MAIN", "/of-main", 200),
        ("c", "&ParentAuthID=MA_MAIN", "/of-other", 403),
        ("d", "&ParentAuthID=MA_MAIN", "/of-sub", 200),
        ("e", "", "/SA_TWO/of-main", 200),
        ("f", "", "/MA_MAIN/of-sub", 403),
        ("g", "", "/SA_TWO/of-sub", 403),
        ("h", "", "/MA_OTHER001/of-main", 403),
        ("i", "&AccountId=MA_STRANGER", "/of-main", 403),
        ("j", "&ParentAuthID=MA_OTHER001", "/of-all", 200),
        ("k", "", "/SA_SUB/of-sub", 200),
        ("l", "", "/of-Main", 403),
    ] {
        let callback = Callback::post(format!("Event=Hangup&CallUUID={call_id}{says}"));
        assert_eq!(endpoint.status(callback.at(format!("{PATH}{path}"))).await, status, "{call_id}");
    }
    assert_eq!(
        database.queue().await,
        [
            "a MA_MAIN certain proven",
            "b MA_MAIN certain proven",
            "d SA_SUB certain proven",
            "e SA_TWO certain",
            "j MA_OTHER001 certain",
            "k SA_SUB certain proven",
        ]
    );
    assert_eq!(database.count("select count(*) from vobiz.cdr_queue where not by_secret").await, 0);
    let leaked = "select count(*) from vobiz.callback b where b::text like '%of-%'";
    assert_eq!(database.count(leaked).await, 0);
    database.every_certain_call_is_somewhere().await;
}
