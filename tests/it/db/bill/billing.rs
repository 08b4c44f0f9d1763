//! The bill: figures computed by hand, days of every zone, and nothing added up that is not the same money.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::calls::single;
use crate::support::database::Database;

/// Stores calls: id, start, other fields as JSON.
async fn store(db: &Database, calls: &[(&str, &str, &str)]) {
    let now = db.now().await;
    let rows: Vec<_> = calls
        .iter()
        .map(|(call, start, fields)| {
            single(&format!(r#"{{"uuid":"{call}","start_time":"{start}",{fields}}}"#), now)
        })
        .collect();
    db.upsert(&rows.iter().collect::<Vec<_>>()).await;
}

/// Stores calls that began when no record may say so: reading takes such a time for none, but a table can hold it.
async fn store_at(db: &Database, calls: &[(&str, &str)]) {
    let fields = r#""total_cost":1,"currency":"INR""#;
    let stored: Vec<_> = calls.iter().map(|(call, _)| (*call, "2026-03-30T04:00:00Z", fields)).collect();
    store(db, &stored).await;
    for (call, start) in calls {
        db.run(&format!("update vobiz.cdr set start_time = '{start}' where call_id = '{call}'")).await;
    }
}

/// Ten calls around the turn of a month in Kolkata (18:30 UTC of 31 March).
async fn ten_calls() -> Database {
    let db = Database::new().await;
    db.run("insert into vobiz.customer_rule (field, value, customer, valid_to) values ('trunk_id', 'T1', 'Asha Travels', '2026-03-31 18:30Z')").await;
    store(
        &db,
        &[
            // 30 March: one minute to the second, one second more, and not answered though it rang and cost.
            ("a", "2026-03-30T04:00:00Z", r#""call_direction":"outbound","currency":"INR","duration":65,"billsec":60,"cost":0.45,"streaming_cost":0,"total_cost":0.45"#),
            ("b", "2026-03-30T04:14:59Z", r#""call_direction":"outbound","currency":"INR","duration":70,"billsec":61,"cost":0.90,"streaming_cost":0.20,"total_cost":1.10"#),
            ("c", "2026-03-30T04:15:00Z", r#""call_direction":"outbound","currency":"INR","duration":30,"billsec":0,"cost":0.02,"streaming_cost":0,"total_cost":0.02"#),
            // Not answered, free; and one of which Vobiz said almost nothing.
            ("d", "2026-03-30T04:20:00Z", r#""call_direction":"outbound","currency":"INR","duration":20,"billsec":0,"cost":0,"streaming_cost":0,"total_cost":0"#),
            ("e", "2026-03-30T04:25:00Z", r#""call_direction":"outbound","currency":"INR""#),
            // Another currency on the same day, to five decimals.
            ("f", "2026-03-30T05:00:00Z", r#""call_direction":"outbound","currency":"USD","duration":10,"billsec":1,"cost":0.00001,"streaming_cost":0,"total_cost":0.00001"#),
            // A customer's trunk, one second before his rule and the month end, and in the very instant.
            ("g", "2026-03-31T18:29:59Z", r#""call_direction":"inbound","currency":"INR","duration":200,"billsec":177,"cost":0.285,"streaming_cost":0,"total_cost":0.285,"trunk_id":"T1""#),
            ("h", "2026-03-31T18:30:00Z", r#""call_direction":"inbound","currency":"INR","duration":200,"billsec":177,"cost":0.285,"streaming_cost":0,"total_cost":0.285,"trunk_id":"T1""#),
            // Neither direction nor currency.
            ("i", "2026-04-01T00:00:00Z", r#""duration":5,"billsec":4,"total_cost":0.45"#),
            ("j", "2026-04-01T00:00:01Z", r#""duration":5,"billsec":4,"total_cost":0.45"#),
        ],
    )
    .await;
    db
}

const DAY: &str = "select concat_ws(' | ', day, customer, coalesce(currency, '-'), coalesce(call_direction, '-'), calls, answered,
                          unanswered_with_cost, duration, billsec, minutes, pulse_minutes, trim_scale(cost), trim_scale(streaming_cost),
                          trim_scale(total_cost), without_cost)
                   from vobiz.billing_day order by day, currency, customer";

#[tokio::test]
async fn the_bill_of_ten_calls_is_what_a_person_computes() {
    let db = ten_calls().await;
    let expected = [
        // a b c d e: 65+70+30+20 = 185 s, 60+61 = 121 s = 2.016667 min, 1+2 = 3 pulses, 0.45+0.90+0.02 = 1.37, 0.45+1.10+0.02 = 1.57.
        "2026-03-30 | unassigned | INR | outbound | 5 | 2 | 1 | 185 | 121 | 2.016667 | 3 | 1.37 | 0.2 | 1.57 | 1",
        "2026-03-30 | unassigned | USD | outbound | 1 | 1 | 0 | 10 | 1 | 0.016667 | 1 | 0.00001 | 0 | 0.00001 | 0",
        // g is the last call of 31 March in Kolkata; 177 s are three pulses.
        "2026-03-31 | Asha Travels | INR | inbound | 1 | 1 | 0 | 200 | 177 | 2.950000 | 3 | 0.285 | 0 | 0.285 | 0",
        "2026-04-01 | unassigned | INR | inbound | 1 | 1 | 0 | 200 | 177 | 2.950000 | 3 | 0.285 | 0 | 0.285 | 0",
        "2026-04-01 | unassigned | - | - | 2 | 2 | 0 | 10 | 8 | 0.133333 | 2 | 0 | 0 | 0.9 | 0",
    ];
    assert_eq!(db.texts(DAY).await, expected);
    let month = DAY.replace("day,", "month,").replace("billing_day", "billing_month");
    let march = "2026-03-01 | unassigned | INR | outbound | 5 | 2 | 1 | 185 | 121 | 2.016667 | 3 | 1.37 | 0.2 | 1.57 | 1";
    let months = db.texts(&month).await;
    assert_eq!(months.len(), 5);
    assert!(months.contains(&march.to_owned()), "{months:?}");
    assert_eq!(
        db.texts("select distinct billing_zone || account_id from vobiz.billing_month").await,
        ["Asia/KolkataMA_TESTAB12"]
    );
    // The same after folding, to the last digit.
    vobiz_cdr::db::bill::rollup::fold(&mut *db.connection().await, 1000).await.unwrap();
    assert_eq!(db.texts(DAY).await, expected);
}

#[tokio::test]
async fn a_month_of_kolkata_differs_from_utc_by_the_calls_near_its_edges_and_by_no_other() {
    let db = ten_calls().await;
    let sums = "select month || ' ' || sum(calls) || ' ' || trim_scale(sum(total_cost)) from vobiz.billing_month where currency = 'INR'
                group by month order by 1";
    assert_eq!(db.texts(sums).await, ["2026-03-01 6 1.855", "2026-04-01 1 0.285"]);
    db.run("update vobiz.setting set billing_zone = 'UTC'").await;
    // h, at 18:30 UTC of 31 March, has moved; nothing else.
    assert_eq!(db.texts(sums).await, ["2026-03-01 7 2.14"]);
}

#[tokio::test]
async fn currencies_are_never_added_up() {
    let db = Database::new().await;
    for (n, currency) in ["INR", "USD", "", "inr"].iter().enumerate() {
        store(
            &db,
            &[(
                &format!("c{n}"),
                "2026-03-30T04:00:00Z",
                &format!(r#""currency":"{currency}","total_cost":1"#),
            )],
        )
        .await;
    }
    store(&db, &[("no-currency", "2026-03-30T04:00:00Z", r#""total_cost":1"#)]).await;
    let distinct = db.count("select count(*) from (select distinct currency from vobiz.cdr) c").await;
    assert_eq!(distinct, 3, "one in two spellings, another one, and none, said or not");
    assert_eq!(db.count("select count(*) from vobiz.billing_month").await, distinct);
    let mixed = "select count(*) from vobiz.billing_month b
                 where total_cost <> (select sum(total_cost) from vobiz.cdr c where c.currency is not distinct from b.currency)";
    assert_eq!(db.count(mixed).await, 0);
    // A call whose currency changes leaves the one and joins the other.
    db.run("update vobiz.cdr set currency = 'EUR' where call_id = 'c0'").await;
    assert_eq!(db.count(mixed).await, 0);
    assert_eq!(db.count("select calls from vobiz.billing_day where currency = 'EUR'").await, 1);
}

#[tokio::test]
async fn days_with_a_change_of_the_clock_have_23_and_25_hours() {
    let db = Database::new().await;
    let calls: Vec<(String, String)> = (0..24 * 9)
        .map(|hour| {
            let at = "2026-03-27T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hour);
            (format!("c{hour}"), at.to_rfc3339())
        })
        .collect();
    let calls: Vec<(&str, &str, &str)> = calls
        .iter()
        .map(|(id, at)| (id.as_str(), at.as_str(), r#""total_cost":0.1,"currency":"EUR""#))
        .collect();
    store(&db, &calls).await;
    let calls_on = async |zone: &str, day: &str| {
        db.run(&format!("update vobiz.setting set billing_zone = '{zone}'")).await;
        db.count(&format!("select calls from vobiz.billing_day where day = '{day}'")).await
    };
    assert_eq!(calls_on("Europe/Berlin", "2026-03-28").await, 24);
    assert_eq!(calls_on("Europe/Berlin", "2026-03-29").await, 23, "the clock leaps from 2 to 3");
    assert_eq!(calls_on("Asia/Kathmandu", "2026-03-29").await, 24, "+05:45");
    assert_eq!(calls_on("Africa/Cairo", "2026-03-29").await, 24);
    let hours = async |zone: &str, day: &str| {
        db.text(&format!(
            "select extract(epoch from vobiz.billing_day_start(date '{day}' + 1, '{zone}') - vobiz.billing_day_start('{day}', '{zone}'))::int / 3600 || ' '
                    || to_char(vobiz.billing_day_start('{day}', '{zone}') at time zone 'UTC', 'HH24:MI')"
        ))
        .await
    };
    assert_eq!(hours("Europe/Berlin", "2026-10-25").await, "25 22:00");
    // Midnight twice: the first one begins the day. Midnight leapt over: the leap begins it. A day that never was.
    assert_eq!(hours("America/Havana", "2026-11-01").await, "25 04:00");
    assert_eq!(hours("America/Sao_Paulo", "2018-11-04").await, "23 03:00");
    assert_eq!(hours("Pacific/Apia", "2011-12-30").await, "0 10:00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_random_zones_and_ranges_partition_the_total() {
    // Both changes of the clock, in the north and in the south, and the year in which Samoa left out a day.
    futures_util::future::join3(
        partition_the_total("2024-02-20", 334),
        partition_the_total("2024-09-20", 333),
        partition_the_total("2011-10-20", 333),
    )
    .await;
}

/// Three months of calls from this day on, and so many pairs of a zone and a range of days in them.
async fn partition_the_total(start: &str, rounds: u64) {
    let db = Database::new().await;
    let mut random = StdRng::seed_from_u64(rounds);
    // Calls at odd seconds, and some a second before and after each quarter of an hour in which a day turns somewhere.
    db.run(&format!(
        "insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, billsec,
                                total_cost, currency)
         select 'c' || i, 'a', 'a', 'manual', 0, now(), 1, sha256(''), timestamptz '{start}Z' + i * interval '3829 s', i % 90, i * 0.00001,
                'INR'
         from generate_series(1, 2000) i
         union all
         select 'm' || i, 'a', 'a', 'manual', 0, now(), 1, sha256(''), timestamptz '{start}Z' + i / 2 * interval '75 min' - i % 2 * interval '1 s',
                5, 1.5, 'INR'
         from generate_series(1, 3400) i"
    ))
    .await;
    let zones = db
        .texts("select name from pg_timezone_names where name ~ '/' and name !~ '^(posix|right)' order by 1")
        .await;
    let total = db.text("select count(*) || ' ' || sum(total_cost) from vobiz.cdr").await;
    let start: NaiveDate = start.parse().unwrap();
    let mut connection = db.connection().await;
    for round in 0..rounds {
        let zone = &zones[random.random_range(0..zones.len())];
        let first = start + Days::new(random.random_range(0..95)) - Days::new(3);
        let last = first + Days::new(random.random_range(0..60));
        // Before, inside and after the range are all there is, and inside is what lies there by the local date of each call.
        let sql = format!(
            "with bill as (
               select sum(calls) filter (where day < '{first}') as calls_before,
                      sum(calls) filter (where day >= '{first}' and day < '{last}') as calls_in,
                      sum(calls) filter (where day >= '{last}') as calls_after, sum(calls) as calls, sum(total_cost) as total,
                      coalesce(sum(total_cost) filter (where day >= '{first}' and day < '{last}'), 0) as total_in
               from vobiz.billing_day
             ), base as (
               select count(*) filter (where at < '{first}') as calls_before,
                      count(*) filter (where at >= '{first}' and at < '{last}') as calls_in,
                      count(*) filter (where at >= '{last}') as calls_after,
                      coalesce(sum(total_cost) filter (where at >= '{first}' and at < '{last}'), 0) as total_in
               from (select (day_at at time zone '{zone}')::date as at, total_cost from vobiz.cdr) c
             )
             select case when coalesce(b.calls_before, 0) = a.calls_before and coalesce(b.calls_in, 0) = a.calls_in
                              and coalesce(b.calls_after, 0) = a.calls_after and b.total_in = a.total_in
                         then b.calls || ' ' || b.total else format('%s | %s', b, a) end
             from bill b, base a"
        );
        sqlx::query("update vobiz.setting set billing_zone = $1")
            .bind(zone)
            .execute(&mut *connection)
            .await
            .unwrap();
        let found: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&mut *connection).await.unwrap();
        assert_eq!(found, total, "round {round}: {zone}, {first} to {last}");
        if round % 100 == 50 {
            vobiz_cdr::db::bill::rollup::fold(&mut connection, 1500).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_call_of_an_odd_year_is_billed_and_holds_nobody_up() {
    let db = Database::new().await;
    store_at(
        &db,
        &[
            ("older", "1900-01-01T00:00:00Z"),
            ("old", "1970-01-02T00:00:00Z"),
            ("now", "2026-03-30T04:00:00Z"),
            ("late", "9000-12-31T23:59:59Z"),
        ],
    )
    .await;
    let days = "select day::text from vobiz.billing_day order by billing_day.day";
    assert_eq!(db.texts(days).await, ["1900-01-01", "1970-01-02", "2026-03-30", "9001-01-01"]);
    assert_eq!(db.count("select count(*) from vobiz.billing_calendar()").await, 4 * 63);
}

#[tokio::test]
async fn a_call_from_when_zones_were_no_whole_quarters_off_is_in_one_day() {
    let db = Database::new().await;
    // Midnight in India was at 18:38:50 UTC then, in the midst of a quarter: that one counts for the day in which it begins.
    store_at(
        &db,
        &[
            ("a", "1899-12-31T18:30:00Z"),
            ("b", "1899-12-31T18:44:59Z"),
            ("c", "1899-12-31T18:45:00Z"),
            ("d", "1900-01-01T18:30:00Z"),
            ("e", "1900-01-01T18:45:00Z"),
        ],
    )
    .await;
    let days = "select concat_ws(' ', day, calls) from vobiz.billing_day order by day";
    assert_eq!(db.texts(days).await, ["1899-12-31 2", "1900-01-01 2", "1900-01-02 1"]);
    for zone in
        ["Asia/Kolkata", "Europe/Amsterdam", "America/New_York", "Africa/Monrovia", "Asia/Kathmandu", "UTC"]
    {
        db.run(&format!("update vobiz.setting set billing_zone = '{zone}'")).await;
        assert_eq!(db.count("select sum(calls)::bigint from vobiz.billing_day").await, 5, "{zone}");
        assert_eq!(db.count("select sum(calls)::bigint from vobiz.billing_month").await, 5, "{zone}");
    }
}

#[tokio::test]
async fn a_month_of_three_hundred_customers_reads_its_days_and_nothing_else() {
    let db = Database::new().await;
    db.run(
        "insert into vobiz.customer_rule (field, value, customer)
         select 'trunk_id', 't' || n, 'customer ' || n from generate_series(0, 299) n;
         -- A call a day, direction and customer, a little longer than a month.
         insert into vobiz.cdr (call_id, account_id, listed_by, origin, attempts, fetched_at, revision, content_hash, start_time, trunk_id,
                                call_direction, billsec, total_cost, currency)
         select 'c' || i, 'a', 'a', 'manual', 0, now(), 1, sha256(''),
                timestamptz '2026-01-31Z' + i / 600 * interval '1 day' + i % 40 * interval '17 min', 't' || i % 300,
                (array['inbound', 'outbound'])[1 + i / 300 % 2], i % 200, 0.45, 'INR'
         from generate_series(0, 600 * 30 - 1) i",
    )
    .await;
    let mut connection = db.connection().await;
    while vobiz_cdr::db::bill::rollup::fold(&mut connection, 20_000).await.unwrap() > 0 {}
    // As an analyst with psql, when there is a year of them.
    for sql in [
        "insert into vobiz.rollup_day
         select account_id, customer, day - 28 * n, currency, call_direction, answered, calls, duration, billsec, pulse_minutes, cost,
                streaming_cost, total_cost, with_cost, without_cost
         from vobiz.rollup_day cross join generate_series(2, 12) n where day >= '2026-02-01' and day < '2026-03-01'",
        "vacuum analyze vobiz.rollup",
        "vacuum analyze vobiz.rollup_delta",
        "vacuum analyze vobiz.rollup_day",
        "set enable_seqscan = on",
    ] {
        sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
    }
    // Some that are not folded yet.
    db.run("update vobiz.cdr set total_cost = 0.46 where call_id like 'c%77'").await;
    for (sql, index, days) in [
        ("billing_month where month = '2026-02-01'", "rollup_day_month", 28),
        ("billing_month where month >= '2026-02-01' and month < '2026-03-01'", "rollup_day_month", 28),
        ("billing_day where day >= '2026-02-01' and day < '2026-03-01'", "rollup_day_key", 28),
        ("billing_day where day = '2026-02-03'", "rollup_day_key", 1),
    ] {
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "explain (analyze, buffers, costs off, timing off) select * from vobiz.{sql}"
        )))
        .fetch_all(&mut *connection)
        .await
        .unwrap();
        let plan = plan.join("\n");
        assert!(plan.contains(index) && !plan.contains("Seq Scan on rollup_day"), "{plan}");
        // Neither the quarters nor the calls, and of the days those that are asked for.
        assert!(
            !plan.contains("on rollup ") && !plan.contains("on rollup r") && !plan.contains("on cdr"),
            "{plan}"
        );
        let rows = 600 * days;
        assert!(plan.contains(&format!("on rollup_day (actual rows={rows} ")), "{plan}");
        let pages = plan.split_once("Buffers: shared ").unwrap().1.split(['\n', ',']).next().unwrap();
        let pages: u32 = pages.split([' ', '=']).filter_map(|word| word.parse::<u32>().ok()).sum();
        assert!(pages < rows + 500, "{pages} pages: {plan}");
    }
    assert_eq!(
        db.text("select concat_ws(' ', count(*), sum(calls), sum(total_cost)) from vobiz.billing_month where month = '2026-02-01'").await,
        db.text(
            "select concat_ws(' ', count(distinct (trunk_id, call_direction)), count(*), sum(total_cost)) from vobiz.cdr
             where day_at >= vobiz.billing_day_start('2026-02-01') and day_at < vobiz.billing_day_start('2026-03-01')"
        )
        .await
    );
}

#[tokio::test]
async fn an_instant_is_in_the_day_that_has_begun_whatever_the_clocks_show() {
    let db = Database::new().await;
    let sql = "
        select string_agg(distinct x.zone, ' ')
        from (values ('America/St_Johns', date '1988-10-30'), ('America/Havana', '2026-11-01'), ('America/Sao_Paulo', '2018-11-04'),
                     ('America/Sao_Paulo', '2018-02-18'), ('Pacific/Apia', '2011-12-30'), ('Pacific/Kwajalein', '1993-08-21'),
                     ('Pacific/Kwajalein', '1969-10-01'), ('Africa/Monrovia', '1972-01-07'), ('Africa/Monrovia', '1960-01-07'),
                     ('Asia/Kolkata', '1900-01-01'), ('Australia/Lord_Howe', '2026-04-05'), ('Australia/Lord_Howe', '2026-10-04'),
                     ('Asia/Manila', '1844-12-31'), ('America/Sitka', '1867-10-18'), ('Europe/Amsterdam', '1937-07-01')) as x (zone, turn)
        cross join lateral generate_series(x.turn - 3, x.turn + 3, '1 day') d
        cross join lateral (select d::date as day, vobiz.billing_day_start(d::date, x.zone) as from_at, vobiz.billing_day_start(d::date + 1, x.zone) as to_at) k
        cross join lateral generate_series(k.from_at, k.to_at - interval '1 s', '5 min') at";
    // All of them are read, and each is in the one day in whose range it lies.
    assert_eq!(db.text(sql).await.split(' ').count(), 11);
    let wrong = format!("{sql} where vobiz.billing_day_of(at, x.zone) <> k.day");
    assert_eq!(db.text(&format!("select coalesce(({wrong}), 'none')")).await, "none");
    // The clocks of Newfoundland went back from 00:01 to 23:01: they show the day before for an hour more, and it has ended.
    let shown = format!("{sql} where (at at time zone x.zone)::date <> k.day");
    assert!(db.text(&shown).await.contains("America/St_Johns"));
}

#[tokio::test]
async fn only_the_name_of_a_zone_is_taken_for_one() {
    let db = Database::with_a_bill().await;
    for zone in [
        "IST",
        "+05:30",
        "Mars/Base",
        " Asia/Kolkata",
        "asia/kolkata",
        "posix/Asia/Kolkata",
        "posixrules",
        "localtime",
        "CET",
    ] {
        let sql = format!("update vobiz.setting set billing_zone = '{zone}'");
        let refused =
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&db.pool).await.unwrap_err().to_string();
        assert!(refused.contains("is no name of a time zone"), "{zone}: {refused}");
    }
    assert_eq!(db.text("select billing_zone from vobiz.setting").await, "Asia/Kolkata");
    db.run("update vobiz.setting set billing_zone = 'UTC', home_country = '44'").await;
    let month = "select string_agg(distinct month || ' ' || billing_zone, ', ') from vobiz.billing_day where month = '2026-03-01'";
    assert_eq!(db.text(month).await, "2026-03-01 UTC");
}

#[tokio::test]
async fn a_clock_put_over_midnight_shows_no_day_twice() {
    let db = Database::new().await;
    db.run("update vobiz.setting set billing_zone = 'America/St_Johns'").await;
    // In 2010 clocks went back at one minute past midnight, to the day before; nine weeks before begins a step of the calendar.
    store(
        &db,
        &[
            ("first", "2010-09-05T12:00:00Z", r#""total_cost":1,"currency":"CAD""#),
            ("again", "2010-11-07T02:45:00Z", r#""total_cost":1,"currency":"CAD""#),
        ],
    )
    .await;
    let twice = "select count(*) - count(distinct day) from vobiz.billing_calendar()";
    assert_eq!(db.count(twice).await, 0);
    let (legs, bill) = (
        "select day::text from vobiz.leg order by day",
        "select day::text from vobiz.billing_day b order by b.day",
    );
    assert_eq!(db.texts(legs).await, db.texts(bill).await);
    assert_eq!(db.count("select sum(calls)::bigint from vobiz.billing_region").await, 2);
}
