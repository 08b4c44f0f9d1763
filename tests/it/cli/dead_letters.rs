//! `dead-letters`, as its user meets it.

use crate::support::database::{ACCOUNT, Database};
use crate::support::process::{author, program, run};

#[tokio::test]
async fn dead_letters_are_listed_shown_and_brought_back() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, attempts, failures, error_class,
                                          last_error, first_failed_at, dead_at, last_body)
             select 'call-' || n, 'MA_TESTAB12', true, true, now(), 5, 5, case when n <= 2 then 'refused' else 'unreadable' end,
                    'refused: 422: bad' || chr(27) || '[31m filter', now(), now(), case when n = 3 then 'not a CDR'::bytea end
             from generate_series(1, 2500) n",
        )
        .await;
    let dead_letters = |arguments: &[&str]| {
        let mut command = program(&[&["dead-letters"], arguments].concat());
        run(command.env("DATABASE_URL", &database.url))
    };
    let alive =
        "select count(*) from vobiz.cdr_queue where dead_at is null and failures = 0 and due_at <= now()";
    let list = dead_letters(&["list", "--class", "refused"]);
    assert!(list.status.success(), "{}", list.stderr);
    assert_eq!(list.stdout.matches("MA_TESTAB12").count(), 2, "{}", list.stdout);
    assert!(!list.stdout.contains('\u{1b}'), "what Vobiz says cannot move the cursor");
    let json = dead_letters(&["list", "--json", "--limit", "7"]).stdout;
    assert_eq!(json.lines().count(), 7);
    assert!(
        json.lines()
            .all(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["class"].is_string())
    );
    let show = dead_letters(&["show", "call-3"]);
    assert!(show.stdout.contains("unreadable") && show.stdout.contains("not a CDR"), "{}", show.stdout);
    assert_eq!(dead_letters(&["show", "call-x"]).status.code(), Some(1));

    // Nobody revives everything by forgetting a word.
    assert_eq!(dead_letters(&["revive"]).status.code(), Some(2));
    assert_eq!(dead_letters(&["revive", "call-1", "--all"]).status.code(), Some(2));
    assert!(dead_letters(&["revive", "call-1"]).status.success());
    assert_eq!(dead_letters(&["revive", "call-1"]).status.code(), Some(1), "it is none any more");
    assert_eq!(database.count(alive).await, 1);
    assert!(dead_letters(&["revive", "--class", "refused"]).stderr.contains("1 revived"));
    assert_eq!(database.count(alive).await, 2);
    assert!(dead_letters(&["revive", "--all"]).stderr.contains("2498 revived"));
    assert_eq!(database.count(alive).await, 2500);
    assert!(dead_letters(&["list"]).stderr.contains("no dead letters"));
}

#[tokio::test]
async fn dead_letters_are_closed_with_a_reason_and_what_lives_stays() {
    let database = Database::new().await;
    database
        .run(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, attempts, failures, error_class,
                                          last_error, first_failed_at, dead_at, last_body)
             select 'call-' || n, 'MA_TESTAB12', true, true, now(), 5, 5, case when n <= 3 then 'refused' else 'unreadable' end,
                    'refused: 422: bad filter', now(), now(), case when n = 1 then '\\x4e6fff'::bytea end
             from generate_series(1, 1500) n",
        )
        .await;
    database.owe(&["alive"], true).await;
    let close = |arguments: &[&str]| {
        let mut command = program(&[&["dead-letters", "close"], arguments].concat());
        run(command.env("DATABASE_URL", &database.url).env("SUDO_USER", "asha"))
    };
    for forgotten in [
        &["call-1"][..],
        &["call-1", "--reason", "  "],
        &["--reason", "why"],
        &["call-1", "--all", "--reason", "why"],
    ] {
        assert_eq!(close(forgotten).status.code(), Some(2), "{forgotten:?}");
    }
    assert!(close(&["call-1", "call-1", "--reason", " agreed with Vobiz "]).status.success());
    let closed = "select concat_ws(' ', account_id, certain, reason, evidence) from vobiz.closed_call";
    assert_eq!(
        database.texts(closed).await,
        ["MA_TESTAB12 t by_operator refused: refused: 422: bad filter, after 5 requests"]
    );
    let audit = "select concat_ws('|', call_id, account_id, reason, replace(by, session_user, 'user'), detail->>'class',
                                  detail->>'attempts', detail->>'last_body') from vobiz.audit where action = 'dead_letter_closed'";
    assert_eq!(
        database.texts(audit).await,
        [format!(r"call-1|MA_TESTAB12|agreed with Vobiz|user ({})|refused|5|No\377", author())]
    );

    // What is owed and alive is not given up, and the others that were named are closed all the same.
    let mixed = close(&["alive", "call-1", "call-2", "--reason", "why", "--by", "Ravi"]);
    assert_eq!(mixed.status.code(), Some(1));
    assert!(mixed.stderr.contains("alive is owed and not dead"), "{}", mixed.stderr);
    assert!(mixed.stderr.contains("call-1 is no dead letter"), "{}", mixed.stderr);
    assert!(mixed.stderr.contains("1 of 3 closed by Ravi"), "{}", mixed.stderr);
    let left = "select count(*) from vobiz.cdr_queue where dead_at is not null";
    assert_eq!(database.count(left).await, 1498);
    assert!(
        close(&["--class", "refused", "--account", ACCOUNT, "--reason", "why"]).stderr.contains("1 closed")
    );
    let slip = close(&["--account", "MA_NOBODY", "--reason", "why"]);
    assert_eq!(slip.status.code(), Some(2), "{}", slip.stderr);
    assert!(slip.stderr.contains("no call of the account \"MA_NOBODY\" is stored"), "{}", slip.stderr);
    assert!(close(&["--all", "--reason", "why"]).stderr.contains("1497 closed"));
    assert_eq!(
        database.count("select count(*) from vobiz.closed_call where reason = 'by_operator'").await,
        1500
    );
    assert_eq!(database.texts("select call_id from vobiz.cdr_queue").await, ["alive"]);

    // A later callback owes a closed call again.
    database.owe(&["call-1"], true).await;
    assert_eq!(database.lease(10).await.len(), 2);
    database.every_certain_call_is_somewhere().await;
}

/// What no word of Vobiz's may do to a reader: clear the screen, ring, turn the line round, hide.
const HIDDEN: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{200b}\u{2028}\u{e0041}";

#[tokio::test]
async fn what_vobiz_says_is_shown_and_not_obeyed() {
    let database = Database::new().await;
    database
        .run(&format!(
            "insert into vobiz.cdr_queue (call_id, account_id, account_proven, certain, due_at, attempts, failures, error_class,
                                          last_error, first_failed_at, dead_at, last_body)
             select 'call-' || n, 'MA_TESTAB12', true, true, now(), 5, 5, case when n = 1 then 'unreadable' else 'unavailable' end,
                    'bad: {HIDDEN}end', now(), case when n = 1 then now() end, convert_to('one{HIDDEN}\ncall   call-9', 'UTF8')
             from generate_series(1, 2) n"
        ))
        .await;
    let dead_letters = |arguments: &[&str]| {
        run(program(&[&["dead-letters"], arguments].concat()).env("DATABASE_URL", &database.url))
    };
    let is_plain = |text: &str| text.chars().all(|c| c == '\n' || !vobiz_cdr::vobiz::is_hidden(c));
    for arguments in [
        &["list"][..],
        &["list", "--owed"],
        &["show", "call-1"],
        &["list", "--json"],
        &["show", "call-1", "--json"],
    ] {
        let done = dead_letters(arguments);
        assert!(done.status.success() && is_plain(&done.stdout), "{arguments:?}: {:?}", done.stdout);
        let (said, json) = (done.stdout, arguments.contains(&"--json"));
        if json {
            let line: serde_json::Value = serde_json::from_str(&said).unwrap();
            assert_eq!(line["last_error"], format!("bad: {HIDDEN}end"), "JSON says the same");
        } else {
            assert!(
                said.contains(r"bad: \u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{200b}\u{2028}\u{e0041}end"),
                "{said}"
            );
        }
    }
    let show = dead_letters(&["show", "call-1"]).stdout;
    assert_eq!(show.lines().filter(|line| line.starts_with("call ")).count(), 1, "{show}");
}
