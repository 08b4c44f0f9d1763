//! The sums of the bill are said once: the texts that hand them on are as the program writes them, and a further one needs no more
//! than that.

#[path = "../../../migrations/data/sums.rs"]
mod program;

use std::path::{Path, PathBuf};

use super::sql::text;
use crate::db::bill::{drift, insert};
use crate::support::database::Database;

/// The program's three sources of a further sum, as a developer edits them: what a file says, and what it says then.
const FURTHER: [(&str, &[(&str, &str)]); 2] = [
    (
        "bill/sums_of.sql",
        &[
            ("without_cost bigint)    -- Calls", "without_cost bigint,    -- Calls"),
            (
                "\n  language sql",
                "\n    long_calls bigint)      -- Legs of a minute or longer; NULL isn't one.\n  language sql",
            ),
            (
                "(of_total_cost is null)::integer::bigint",
                "(of_total_cost is null)::integer::bigint,\n           coalesce(of_billsec >= 60, false)::integer::bigint",
            ),
        ],
    ),
    (
        "views/billing_day.sql",
        &[
            (
                "sum(r.without_cost)::bigint as without_cost",
                "sum(r.without_cost)::bigint as without_cost, sum(r.long_calls)::bigint as long_calls",
            ),
            (
                "-- end\n",
                "comment on column vobiz.billing_day.long_calls is 'Legs of a minute or longer.';\n-- end\n",
            ),
        ],
    ),
];

#[test]
fn each_list_of_the_sums_is_as_the_program_writes_it() {
    let files = program::files();
    for (path, text) in program::written(&files) {
        assert!(files[&path] == text, "{} lists the sums otherwise: run ./dev sums", path.display());
    }
}

/// A list that the program does not know would lack the next sum.
#[test]
fn no_text_lists_the_sums_by_itself() {
    for (path, text) in program::files() {
        let by_hand = program::by_hand(&path, &text);
        let source = path == Path::new(program::SOURCE);
        assert!(
            source || !by_hand.contains("with_cost") || by_hand.contains("unanswered_with_cost"),
            "{}",
            path.display()
        );
        assert!(source || !by_hand.contains("sums_of(c"), "{}", path.display());
    }
}

#[tokio::test]
async fn tables_and_views_of_the_sums_have_all_of_them() {
    let db = Database::new().await;
    let sums = program::names(&program::files());
    assert_eq!(sums[0], "calls");
    for table in ["rollup", "rollup_delta", "rollup_day", "rollup_part", "rollup_day_part", "rollup_base"] {
        let columns = db
            .texts(&format!(
                "select attname::text from pg_catalog.pg_attribute where attrelid = 'vobiz.{table}'::regclass and attnum > 6
                 and not attisdropped order by attnum"
            ))
            .await;
        assert_eq!(columns, sums, "vobiz.{table}");
    }
}

#[tokio::test]
async fn a_further_sum_is_a_numbered_file_the_text_of_sums_of_and_that_of_billing_day() {
    let db = Database::new().await;
    let call = |id: &str, talked: u32| {
        insert(&format!("select '{id}', 'MA_A', 't', timestamptz '2026-03-01 04:00Z', {talked}, 0.5"))
    };
    db.run(&call("before", 61)).await;
    let mut files = program::files();
    for (file, edits) in FURTHER {
        let text = files.get_mut(&Path::new("migrations/repeatable").join(file)).unwrap();
        for (was, is) in edits {
            assert!(text.contains(was), "{file} has no {was:?}");
            *text = text.replacen(was, is, 1);
        }
    }
    let files = program::written(&files);
    let names = program::names(&files);
    assert_eq!(names.last().unwrap(), "long_calls");

    for table in ["rollup", "rollup_delta", "rollup_day"] {
        db.run(&format!("alter table vobiz.{table} add column long_calls bigint not null default 0")).await;
    }
    // As `migrate apply` runs it: all of ORDER, in one transaction.
    let all = text().into_iter().map(|(file, old)| {
        files.get(&PathBuf::from(format!("migrations/repeatable/{file}"))).cloned().unwrap_or(old) + "\n"
    });
    db.run(&format!("begin;\n{}\ncommit", all.collect::<String>())).await;

    db.run(&call("long", 60)).await;
    db.run(&call("short", 59)).await;
    db.run(&call("shortened", 90)).await;
    db.run("update vobiz.cdr set billsec = 30 where call_id = 'shortened'").await;
    db.run(&call("gone", 90)).await;
    db.run("delete from vobiz.cdr where call_id = 'gone'").await;
    db.run("insert into vobiz.customer_rule (field, value, customer) values ('trunk_id', 't', 'acme')").await;
    for view in ["billing_day", "billing_month"] {
        // The call of before is in no sum of it until `verify --repair`.
        let shown = format!(
            "select string_agg(format('%s %s %s', customer, calls, long_calls), ', ') from vobiz.{view}"
        );
        assert_eq!(db.text(&shown).await, "acme 4 2", "{view}");
        let says = format!(
            "select col_description('vobiz.{view}'::regclass, attnum) from pg_catalog.pg_attribute
                            where attrelid = 'vobiz.{view}'::regclass and attname = 'long_calls'"
        );
        assert_eq!(db.text(&says).await, "Legs of a minute or longer.");
    }
    assert_eq!(db.text("select sum(long_calls)::text from vobiz.rollup_base").await, "2");
    assert_eq!(drift(&db).await, 0);

    // What the service sends to Postgres has it as well.
    for file in ["src/db/bill/rollup.rs", "src/db/bill/rollup_day.rs"] {
        let (now, then) = (&program::files()[Path::new(file)], &files[Path::new(file)]);
        assert_eq!(then.matches("long_calls").count(), now.matches("without_cost").count(), "{file}");
    }
}
