use super::*;

fn owed_of(account: &str, calls: i64, retired: bool) -> OwedSnapshot {
    OwedSnapshot { account_id: account.into(), due: calls, waiting: 0, retired }
}

fn account() -> AccountSnapshot {
    AccountSnapshot {
        account_id: "MA_1".into(),
        api_path: Some("Account".into()),
        pause_reason: None,
        paused_seconds: None,
        paused_until: None,
        rate_share: 1.0,
        sweep_from: None,
        swept_seconds_ago: 300.0,
        ledger_since: chrono::DateTime::UNIX_EPOCH,
        last_answer_at: Some(chrono::DateTime::UNIX_EPOCH),
        oldest_due_seconds: 0.0,
        oldest_single_due_seconds: 0.0,
        listed_due_to: None,
        throttled_share: 0.1,
        unpaused_seconds: None,
        unfetched_seconds: 0.0,
        refused_pages: None,
        rows_lost: 0,
    }
}

/// Callbacks that could not be committed for so many seconds.
fn committing(seconds: u64) -> LastingCondition {
    LastingCondition {
        what: "callbacks cannot be committed",
        account: String::new(),
        error: String::new(),
        cure: "see Postgres",
        began: Duration::from_secs(seconds),
        lasting: Duration::from_secs(seconds),
    }
}

pub(crate) fn replica(reason: Option<&str>, seconds: f64) -> ReplicaSnapshot {
    ReplicaSnapshot {
        account_id: "MA_1".into(),
        host: "host-b".into(),
        pid: 4711,
        duty: "fetch".into(),
        pause_reason: reason.map(Into::into),
        paused_seconds: reason.map(|_| seconds),
        error: reason.map(|_| "unavailable: no connection: dns error: failed to lookup".into()),
        answered_seconds_ago: Some(5.0),
    }
}

pub(crate) fn well() -> StatusSnapshot {
    StatusSnapshot {
        postgres: PostgresSnapshot {
            answers: true,
            lasting: Duration::from_secs(90_000),
            failure: None,
            no_connection: None,
            read_only: None,
            blockers: vec![],
            lease_holders: vec![],
        },
        accounts: vec![account()],
        owed: vec![owed_of("MA_1", 8, false)],
        dead: vec![],
        callbacks: None,
        newest: vec![],
        ledger: LedgerSnapshot::default(),
        sums: SumsSnapshot::default(),
        unclear: UnclearSnapshot::default(),
        replicas: vec![replica(None, 0.0)],
        asks: true,
        long_owed: vec![],
        ahead: vec![],
        loops: vec![LoopSnapshot { name: "fetch".into(), silence: Duration::ZERO, stalled: false }],
        schema: SchemaSnapshot { ahead: 1, ..SchemaSnapshot::default() },
        clocks: ClockSkew { postgres: Some(-0.2), vobiz: Some(2.0), behind: None },
        conditions: vec![committing(9)],
        counted: Some(Duration::from_secs(20)),
        uptime: Duration::from_secs(90_000),
        starting: false,
        sweep_interval: Duration::from_secs(300),
    }
}

fn paused(reason: &str, seconds: f64) -> StatusSnapshot {
    let mut snapshot = well();
    snapshot.accounts[0].pause_reason = Some(reason.into());
    snapshot.accounts[0].paused_seconds = Some(seconds);
    snapshot
}

impl StatusSnapshot {
    fn starting_for(mut self, seconds: u64) -> Self {
        self.uptime = Duration::from_secs(seconds);
        self
    }
}

fn with(change: impl FnOnce(&mut StatusSnapshot)) -> StatusSnapshot {
    let mut snapshot = well();
    change(&mut snapshot);
    snapshot
}

#[test]
fn nobody_is_called_when_all_is_well_or_mends_itself() {
    for snapshot in [
        well(),
        paused("throttled", 60.0),
        paused("unavailable", 20.0),
        with(|snapshot| {
            snapshot.postgres =
                PostgresSnapshot { answers: false, lasting: Duration::from_secs(5), ..well().postgres }
        }),
        with(|snapshot| snapshot.accounts[0].oldest_single_due_seconds = 600.0),
        with(|snapshot| {
            snapshot.sums.unfolded = 2_000_000;
            snapshot.sums.unfolded_seconds = 600.0;
        }),
        // A day's backlog under a reservation: the list resolves it.
        with(|snapshot| {
            snapshot.accounts[0].oldest_due_seconds = 90_000.0;
            snapshot.accounts[0].listed_due_to = Some(chrono::DateTime::UNIX_EPOCH);
        }),
        // Just back from two hours of an outage, a pause or a stop: it had no time yet.
        with(|snapshot| {
            snapshot.accounts[0].oldest_single_due_seconds = 7200.0;
            snapshot.accounts[0].swept_seconds_ago = 7200.0;
            snapshot.accounts[0].unpaused_seconds = Some(60.0);
        }),
        with(|snapshot| {
            snapshot.accounts[0].oldest_single_due_seconds = 7200.0;
            snapshot.accounts[0].swept_seconds_ago = 7200.0;
            snapshot.uptime = Duration::from_secs(60);
            snapshot.counted = None;
        }),
        with(|snapshot| snapshot.starting = true).starting_for(20),
    ] {
        assert_eq!(evaluate(&snapshot), [], "{snapshot:?}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with a few lines for each condition")]
fn every_condition_is_said_once_and_with_its_cure() {
    for (snapshot, what, cure) in vec![
        (paused("denied", 1.0), "account MA_1 is paused: denied", "token"),
        (paused("unreadable", 1.0), "paused: unreadable", "newer release"),
        (paused("unavailable", 31.0), "paused: unavailable", "status page"),
        (
            with(|snapshot| {
                // Between two pauses as well as in one.
                snapshot.accounts[0].throttled_share = 0.97;
            }),
            "throttled (429) for 97 % of the last 15 minutes",
            "VOBIZ_MAX_RPS",
        ),
        (
            with(|snapshot| {
                snapshot.accounts[0].pause_reason = Some("throttled".into());
                snapshot.accounts[0].paused_seconds = Some(10.0);
                snapshot.accounts[0].oldest_single_due_seconds = 3601.0;
            }),
            "due and not fetched",
            "VOBIZ_MAX_RPS",
        ),
        (
            with(|snapshot| snapshot.conditions = vec![committing(10)]),
            "callbacks cannot be committed",
            "see Postgres",
        ),
        (
            with(|snapshot| snapshot.counted = Some(Duration::from_secs(1801))),
            "could not be polled",
            "permission",
        ),
        (with(|snapshot| snapshot.counted = None), "could not be polled", "permission"),
        (
            with(|snapshot| {
                snapshot.starting = true;
                snapshot.uptime = Duration::from_secs(301);
                snapshot.postgres.answers = false;
            }),
            "still starting",
            "migration",
        ),
        (
            with(|snapshot| {
                snapshot.loops[0] =
                    LoopSnapshot { name: "receive".into(), silence: Duration::from_secs(70), stalled: true };
            }),
            "the public port takes no connections",
            "ulimit",
        ),
        (
            with(|snapshot| snapshot.accounts[0].oldest_single_due_seconds = 3601.0),
            "due and not fetched",
            "VOBIZ_MAX_RPS",
        ),
        (with(|snapshot| snapshot.accounts[0].swept_seconds_ago = 4501.0), "has not been swept", "--only"),
        (
            with(|snapshot| snapshot.owed[0].account_id = "MA_2".into()),
            "8 calls are owed for account MA_2",
            "SIGHUP",
        ),
        (
            with(|snapshot| {
                snapshot.dead.push(DeadLetterSnapshot {
                    account_id: "MA_1".into(),
                    class: "refused".into(),
                    calls: 2,
                    oldest_seconds: 9.5,
                });
            }),
            "2 dead letters of account MA_1: refused",
            "dead-letters revive",
        ),
        (
            with(|snapshot| snapshot.owed.push(owed_of("MA_GONE", 1, false))),
            "1 call is owed for account MA_GONE, which is not configured",
            "account retire",
        ),
        (
            with(|snapshot| snapshot.owed.push(owed_of("MA_GONE", 2, true))),
            "2 calls are owed for account MA_GONE, which was retired before they came",
            "--give-up",
        ),
        (with(|snapshot| snapshot.loops[0].stalled = true), "the loop `fetch` makes no progress", "restart"),
        (with(|snapshot| snapshot.schema.pending = 1), "1 migration is missing", "migrate apply"),
        (with(|snapshot| snapshot.schema.changed = 1), "1 with another text", "migrate status"),
        (
            with(|snapshot| snapshot.schema.missing_partitions = vec!["callback_2026_12".into()]),
            "callback_2026_12",
            "migrate apply",
        ),
        (
            with(|snapshot| {
                snapshot.accounts[0].pause_reason = Some("unavailable".into());
                snapshot.accounts[0].paused_seconds = Some(31.0);
                snapshot.replicas = vec![replica(Some("unavailable"), 31.0)];
            }),
            "paused: unavailable (host-b pid 4711: unavailable: no connection: dns error",
            "the name of the API is not found",
        ),
        (
            with(|snapshot| {
                snapshot.replicas = vec![replica(None, 0.0), replica(Some("denied"), 1.0)];
                snapshot.replicas[1].answered_seconds_ago = None;
            }),
            "one replica asks for no calls of account MA_1, while others may: denied (host-b pid 4711, which never had a good answer",
            "mend that process",
        ),
        (
            with(|snapshot| {
                snapshot.accounts[0].last_answer_at = None;
                snapshot.uptime = Duration::from_secs(31);
            }),
            "has not given one good answer for account MA_1 yet",
            "VOBIZ_API_URL",
        ),
        (
            with(|snapshot| {
                snapshot.long_owed = vec![LongOwedSnapshot {
                    account_id: "MA_1".into(),
                    class: "unavailable".into(),
                    calls: 1,
                    oldest_seconds: 2_600_000.0,
                }];
            }),
            "1 call of account MA_1 has been owed for over 36 hours: unavailable",
            "dead-letters list --owed",
        ),
        (
            with(|snapshot| {
                snapshot.ahead = vec![AheadSnapshot {
                    account_id: "MA_1".into(),
                    columns: "swept_at, next_slot".into(),
                    seconds: 7200.0,
                }];
            }),
            "instants of account MA_1 lie up to 2h in the future: swept_at, next_slot",
            "timedatectl",
        ),
        (with(|snapshot| snapshot.clocks.vobiz = Some(-31.0)), "the Vobiz API is 31 s behind ours", "NTP"),
        (
            with(|snapshot| {
                snapshot.clocks =
                    ClockSkew { postgres: Some(-7200.0), vobiz: Some(-31.0), behind: Some(7169.0) };
            }),
            "nothing is fetched, listed or proven: the clock of Postgres is 7169 s behind",
            "NTP",
        ),
        (with(|snapshot| snapshot.clocks.postgres = Some(60.0)), "Postgres is 60 s ahead of ours", "NTP"),
        (with(|snapshot| snapshot.postgres.read_only = Some("standby".into())), "takes no writes", "primary"),
        (with(|snapshot| snapshot.postgres.read_only = Some("user".into())), "takes no writes", "our role:"),
        (
            with(|snapshot| snapshot.postgres.read_only = Some("configuration file".into())),
            "takes no writes",
            "disk",
        ),
    ] {
        let acts = evaluate(&snapshot);
        assert_eq!(acts.len(), 1, "{acts:?}");
        assert!(acts[0].what.contains(what) && acts[0].cure.contains(cure), "{what}: {acts:?}");
    }
}

#[test]
fn the_words_of_the_transport_decide_what_to_do_about_an_api_that_is_away() {
    for (error, cure) in [
        (
            "unavailable: no connection: invalid peer certificate: UnknownIssuer",
            "certificate of the API is not believed",
        ),
        (
            "unavailable: no connection: client error (Connect): tls handshake eof",
            "certificate of the API is not believed",
        ),
        (
            "unavailable: no connection: dns error: failed to lookup address information",
            "the name of the API is not found",
        ),
        (
            "unavailable: no connection: tcp connect error: Connection refused (os error 111)",
            "nothing takes connections",
        ),
        ("unavailable: no answer in time: operation timed out", "no answer comes"),
        ("unavailable: 503", "status page"),
    ] {
        let snapshot = with(|snapshot| {
            snapshot.accounts[0].pause_reason = Some("unavailable".into());
            snapshot.accounts[0].paused_seconds = Some(31.0);
            snapshot.replicas = vec![replica(Some("unavailable"), 31.0)];
            snapshot.replicas[0].error = Some(error.into());
        });
        let acts = evaluate(&snapshot);
        assert_eq!(acts.len(), 1, "{acts:?}");
        assert!(acts[0].what.contains(error) && acts[0].cure.contains(cure), "{acts:?}");
    }
}

#[test]
fn a_process_that_asks_nothing_waits_for_no_answer() {
    for change in [
        (|snapshot| snapshot.asks = false) as fn(&mut StatusSnapshot),
        |snapshot| snapshot.uptime = Duration::from_secs(29),
        |snapshot| snapshot.postgres.lasting = Duration::from_secs(29),
    ] {
        let snapshot = with(|snapshot| {
            snapshot.accounts[0].last_answer_at = None;
            change(snapshot);
        });
        assert_eq!(evaluate(&snapshot), []);
    }
}

#[test]
fn a_postgres_that_is_away_is_the_only_thing_said() {
    let snapshot = with(|snapshot| {
        snapshot.postgres =
            PostgresSnapshot { answers: false, lasting: Duration::from_secs(400), ..well().postgres };
        snapshot.loops[0].stalled = true;
        snapshot.accounts[0].oldest_single_due_seconds = 9999.0;
        snapshot.accounts[0].swept_seconds_ago = 9999.0;
    });
    let acts = evaluate(&snapshot);
    assert_eq!(acts.len(), 1, "{acts:?}");
    assert!(acts[0].what.starts_with("Postgres does not answer"));
    assert_eq!(acts[0].for_seconds, Some(400));
}

#[test]
fn a_bill_that_drifts_from_its_calls_is_said_with_its_cure() {
    for (snapshot, what, cure) in [
        (
            with(|snapshot| {
                snapshot.sums.wrong_sums = 3;
                snapshot.sums.wrong = vec![crate::db::bill::proof::WrongDay {
                    account_id: "MA_1".into(),
                    day: chrono::NaiveDate::default(),
                    sums: 3,
                    found_at: chrono::DateTime::UNIX_EPOCH,
                }];
            }),
            "3 sums of the bill do not equal the calls, first on 1970-01-01 of account MA_1",
            "verify --repair",
        ),
        (
            with(|snapshot| snapshot.sums.disabled_triggers = vec!["roll_up_insert on vobiz.cdr".into()]),
            "triggers are disabled, so bill, versions and days do not follow the calls: roll_up_insert on vobiz.cdr",
            "enable trigger user",
        ),
    ] {
        let [act] = &evaluate(&snapshot)[..] else { panic!("{snapshot:?}") };
        assert_eq!(act.what, what);
        assert!(act.cure.contains(cure), "{act:?}");
    }
}

#[test]
fn changes_that_are_not_folded_for_long_are_said() {
    for (unfolded, seconds, what) in [
        (1, 901.0, "1 change of the sums of the bill is not folded"),
        (7_000, 90_000.0, "7000 changes of the sums of the bill are not folded"),
    ] {
        let acts = evaluate(&with(|snapshot| {
            snapshot.sums.unfolded = unfolded;
            snapshot.sums.unfolded_seconds = seconds;
        }));
        assert_eq!(acts.len(), 1, "{acts:?}");
        assert!(acts[0].what.starts_with(what), "{acts:?}");
        assert!(acts[0].cure.contains("the rollup cannot be folded"), "{acts:?}");
    }
}
