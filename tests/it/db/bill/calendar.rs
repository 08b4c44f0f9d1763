//! Two calendars, one definition: the days of the bill, and those of the provider where nothing else is inferred of them.

use crate::support::database::{ACCOUNT, Database};

#[tokio::test]
async fn a_day_whose_midnight_is_shown_twice_begins_with_the_first_in_both_calendars() {
    let db = Database::new().await;
    db.run("update vobiz.setting set billing_zone = 'America/Havana'").await;
    let starts = format!(
        "select concat_ws(' ', b at time zone 'UTC', p at time zone 'UTC')
         from (select vobiz.billing_day_start('2026-11-01') as b, vobiz.provider_day_start('{ACCOUNT}', '2026-11-01') as p) x"
    );
    assert_eq!(db.text(&starts).await, "2026-11-01 04:00:00 2026-11-01 04:00:00");
    // Half past midnight, the first time and the second.
    for (instant, day) in
        [("03:59:59.999999", "2026-10-31"), ("04:30", "2026-11-01"), ("05:30", "2026-11-01")]
    {
        let days = format!(
            "select concat_ws(' ', vobiz.billing_day_of(i), vobiz.provider_day_of('{ACCOUNT}', i))
             from (select timestamptz '2026-11-01 {instant}Z' as i) x"
        );
        assert_eq!(db.text(&days).await, format!("{day} {day}"), "{instant}");
    }
}

#[tokio::test]
async fn an_inferred_offset_moves_the_days_of_the_provider_alone() {
    let db = Database::new().await;
    db.run("update vobiz.account set day_offset = '0'").await;
    let starts = format!(
        "select concat_ws(' ', vobiz.billing_day_start('2026-11-01') at time zone 'UTC',
                          vobiz.provider_day_start('{ACCOUNT}', '2026-11-01') at time zone 'UTC')"
    );
    assert_eq!(db.text(&starts).await, "2026-10-31 18:30:00 2026-11-01 00:00:00");
}

#[tokio::test]
async fn a_day_of_the_provider_may_begin_where_any_zone_begins_it_that_fits() {
    let db = Database::new().await;
    let starts = format!(
        "select concat_ws(' ', vobiz.provider_day_start_earliest('{ACCOUNT}', '2026-11-02') at time zone 'UTC',
                          vobiz.provider_day_start_latest('{ACCOUNT}', '2026-11-02') at time zone 'UTC')"
    );
    assert_eq!(
        db.text(&starts).await,
        "2026-11-01 18:30:00 2026-11-01 18:30:00",
        "the billing zone, as long as it fits"
    );
    for (offset, least, most, expected) in [
        ("-08:00", "-08:40", "-07:10", "2026-11-02 07:15:00 2026-11-02 08:30:00"),
        ("05:45", "05:45", "05:45:01", "2026-11-01 18:15:00 2026-11-01 18:15:00"),
        ("00:00", "-00:10", "00:15", "2026-11-02 00:00:00 2026-11-02 00:00:00"),
        // What nothing fits says nothing.
        ("01:00", "03:00", "02:00", "2026-11-01 23:00:00 2026-11-01 23:00:00"),
    ] {
        db.run(&format!(
            "update vobiz.account set day_offset = '{offset}';
             insert into vobiz.provider_day_bound values ('{ACCOUNT}', 'start_time', '{least}', '{most}')
             on conflict (account_id, day_of) do update set least = excluded.least, most = excluded.most"
        ))
        .await;
        assert_eq!(db.text(&starts).await, expected, "{least} {most}");
    }
}

#[tokio::test]
async fn a_billable_day_lies_whole_between_the_beginning_of_the_ledger_and_what_is_safe() {
    let db = Database::new().await;
    db.with_settled_days(Some("2026-04-05")).await;
    let days = "select concat_ws(' ', min(day), max(day), count(*)) from vobiz.billable_day where account_id = 'MA_TESTAB12'";
    assert_eq!(db.text(days).await, "2026-03-01 2026-04-04 35");
    db.run("update vobiz.account set ledger_since = '2026-03-10 00:01+05:30'").await;
    assert_eq!(db.text(days).await, "2026-03-11 2026-04-04 25");
    db.run("update vobiz.account set ledger_since = '2026-04-07 00:00+05:30'").await;
    assert_eq!(db.text(days).await, "0");
}

/// All zones, and of each the days of 1990 to 2040 around every change of its clock (a change that is taken back within a week
/// would be overlooked), and some between. Every single day would be eleven million, for minutes.
const DAYS: &str = "
    create table zone as
      select name as zone, row_number() over (order by name) as number from pg_catalog.pg_timezone_names
      where name !~ '^(posix|right)/' and name not in ('posixrules', 'localtime', 'Factory');
    delete from zone where number % 2 <> $half;
    create table candidate as
    with week as (
      select z.zone, d as at, (d at time zone z.zone) - (d at time zone 'UTC') as off
      from zone z, generate_series(timestamptz '1989-12-28Z', timestamptz '2041-01-08Z', interval '7 days') d
    ), changed as (
      select zone, at, off is distinct from lag(off) over (partition by zone order by at) as changed from week
    ), day as (
      select c.zone, d.at, (d.at at time zone c.zone) - (d.at at time zone 'UTC') as off,
             ((d.at - interval '1 day') at time zone c.zone) - ((d.at - interval '1 day') at time zone 'UTC') as before
      from changed c, generate_series(0, 6) n, lateral (select c.at - n * interval '24 hours' as at) d
      where c.changed
    )
    select zone, (at at time zone 'UTC')::date + n as day from day, generate_series(-1, 1) n where off <> before
    union
    select zone, date '1990-01-01' + n * 1861 from zone, generate_series(0, 10) n;
    analyze candidate;
    -- The setting is put to each zone without what a change of it recomputes.
    alter table vobiz.setting disable trigger user;
    create table wrong (zone text, day date, what text);
    do $$
    declare
      z record;
    begin
      for z in select zone from zone loop
        update vobiz.setting set billing_zone = z.zone;
        insert into wrong
        with day as materialized (
          select c.day, vobiz.billing_day_start(c.day, z.zone) as from_at, vobiz.billing_day_start(c.day + 1, z.zone) as to_at
          from candidate c where c.zone = z.zone
        ), checked as materialized (
          -- A day that a zone has left out has no instant.
          select d.day, d.from_at, d.from_at = d.to_at as empty, d.from_at <= d.to_at as forward,
                 vobiz.provider_day_start('MA_X', d.day) = d.from_at as same_start,
                 vobiz.billing_day_of(d.from_at, z.zone) as first_day,
                 vobiz.billing_day_of(d.from_at - interval '1 microsecond', z.zone) as day_before,
                 vobiz.provider_day_of('MA_X', d.from_at) as provider_day
          from day d
        )
        select z.zone, c.day, w.what
        from checked c cross join lateral (values
          ('days follow one another', c.forward),
          ('the calendars agree on the start', c.same_start),
          ('the calendars agree on the day', c.provider_day = c.first_day),
          ('the start belongs to the day', c.empty or c.first_day = c.day),
          ('the instant before belongs to an earlier day', c.empty or c.day_before < c.day),
          ('the shortcut of vobiz.leg', c.empty or c.from_at < '2011-01-02Z' or (
             (c.from_at at time zone z.zone)::date = c.day
             and ((c.from_at - interval '1 microsecond') at time zone z.zone)::date = c.day_before))) w (what, holds)
        where w.holds is not true;
      end loop;
    end $$;";

async fn both_calendars_agree(half: u8) {
    let db = Database::new().await;
    db.run(&DAYS.replace("$half", &half.to_string())).await;
    let wrong =
        db.texts("select concat_ws(' ', zone, day, what) from wrong order by zone, day limit 20").await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(db.count("select count(distinct zone) from candidate").await > 250);
    assert!(db.count("select count(*) from candidate").await > 20_000);
}

// Two halves, so that they run beside each other.
#[tokio::test]
async fn both_calendars_agree_in_all_zones_from_1990_to_2040_first_half() {
    both_calendars_agree(0).await;
}

#[tokio::test]
async fn both_calendars_agree_in_all_zones_from_1990_to_2040_second_half() {
    both_calendars_agree(1).await;
}
