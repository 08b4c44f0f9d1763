create or replace function vobiz.apply_customer_rule() returns trigger
  -- Rows go through text on their way into arrays: not every DateStyle reads what it writes.
  language plpgsql security definer set search_path = pg_catalog, pg_temp set datestyle = 'ISO'
  as $$
  declare
    removed  vobiz.customer_rule[] := '{}';
    added    vobiz.customer_rule[] := '{}';
    touching vobiz.customer_rule[];
    clash    record;
    -- What the touching rules name, and from when to when.
    numbers   text[];
    campaigns text[];
    trunks    text[];
    accounts  text[];
    owners    text[];
    unused    bigint[];
    first     timestamptz;
    after     timestamptz;
  begin
    if tg_op <> 'INSERT' then
      removed := array(select r from was r);
    end if;
    if tg_op <> 'DELETE' then
      added := array(select r from "is" r);
    end if;

    select a.id as a, b.id as b, a.field, a.value into clash
    from unnest(added) a
    join vobiz.customer_rule b on b.field = a.field and b.forms && a.forms and b.id <> a.id
                              and b.valid_from < a.valid_to and b.valid_to > a.valid_from
    order by 1, 2 limit 1;
    if found then
      raise exception 'rules % and % overlap: both say whose calls those with % = ''%'' are', clash.a, clash.b, clash.field, clash.value
        using errcode = 'exclusion_violation',
              hint = 'End the one before the other begins: set its valid_to to the valid_from of the other. '
                     || 'Two numbers of different countries overlap where a call may show both as the same digits: keep the one that is yours.';
    end if;

    touching := removed || added;
    select coalesce((select array_agg(f.form) from unnest(touching) r cross join lateral unnest(r.forms) f (form)
                     where r.field = 'our_number'), '{}'),
           coalesce(array_agg(value) filter (where field = 'campaign_id'), '{}'),
           coalesce(array_agg(value) filter (where field = 'trunk_id'), '{}'),
           coalesce(array_agg(value) filter (where field = 'account_id'), '{}'), min(valid_from), max(valid_to)
    into numbers, campaigns, trunks, accounts, first, after
    from unnest(touching);
    -- The calls of some accounts and some time are ranges of an index. Numbers, campaigns and trunks are in none: they are looked for
    -- in all accounts.
    owners := accounts;
    if cardinality(numbers || campaigns || trunks) > 0 then
      select array_agg(o.account_id) into owners from vobiz.call_owner o;
    end if;

    with before as materialized (
      select r from vobiz.customer_rule r where id not in (select id from unnest(added))
      union all
      select r from unnest(removed) r
    ), before_number as materialized (
      select b.r, f.form from before b cross join lateral unnest((b.r).forms) f (form) where (b.r).field = 'our_number'
    ), touched as materialized (
      select c.account_id, c.customer, c.day_at, c.trunk_id, c.campaign_id, c.our_number, c.call_direction,
             /* each input: c.{} */
             c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time, c.notes
             /* end */
      from vobiz.customer_cdr c
      where c.account_id = any (owners) and c.day_at >= first and c.day_at < after
        and (c.our_number = any (numbers) or c.campaign_id = any (campaigns) or c.trunk_id = any (trunks)
             or c.account_id = any (accounts))
    ), moved as (
      -- As vobiz.customer_cdr, by the rules of before.
      select c.*, vobiz.first_rule((n.r).customer, (k.r).customer, (t.r).customer, (a.r).customer) as former
      from touched c
      left join before_number n on n.form = c.our_number and vobiz.rule_is_valid((n.r).valid_from, (n.r).valid_to, c.day_at)
      left join before k on vobiz.rule_holds(k.r, 'campaign_id', c.campaign_id, c.day_at)
      left join before t on vobiz.rule_holds(t.r, 'trunk_id', c.trunk_id, c.day_at)
      left join before a on vobiz.rule_holds(a.r, 'account_id', c.account_id, c.day_at)
    ), summed as (
      select c.account_id, c.former, c.customer, vobiz.bucket_of(c.day_at) as bucket, c.currency, c.call_direction,
             c.billsec > 0 as answered,
             /* each sum: sum(s.{}) as {} */
             sum(s.calls) as calls, sum(s.duration) as duration, sum(s.billsec) as billsec, sum(s.pulse_minutes) as pulse_minutes,
             sum(s.cost) as cost, sum(s.streaming_cost) as streaming_cost, sum(s.total_cost) as total_cost,
             sum(s.with_cost) as with_cost, sum(s.without_cost) as without_cost, sum(s.credits) as credits,
             sum(s.unclear) as unclear
             /* end */
      from moved c
      cross join lateral vobiz.sums_of(/* each input: c.{} */ c.duration, c.billsec, c.cost, c.streaming_cost, c.total_cost, c.currency, c.start_time, c.end_time, c.notes /* end */) s
      where c.customer <> c.former
      group by 1, 2, 3, 4, 5, 6, 7
    ), put as (
    insert into vobiz.rollup_delta (
      account_id, customer, bucket, currency, call_direction, answered,
      /* each sum: {} */
      calls, duration, billsec, pulse_minutes, cost, streaming_cost, total_cost, with_cost, without_cost, credits, unclear
      /* end */)
    select s.account_id, x.customer, s.bucket, s.currency, s.call_direction, s.answered,
           /* each sum: x.sign * s.{} */
           x.sign * s.calls, x.sign * s.duration, x.sign * s.billsec, x.sign * s.pulse_minutes, x.sign * s.cost,
           x.sign * s.streaming_cost, x.sign * s.total_cost, x.sign * s.with_cost, x.sign * s.without_cost, x.sign * s.credits,
           x.sign * s.unclear
           /* end */
    from summed s cross join lateral (values (-1, s.former), (1, s.customer)) as x (sign, customer)
    ), shown as materialized (
      select c.our_number, c.campaign_id, c.trunk_id, c.account_id, min(c.day_at) as first_at, max(c.day_at) as last_at
      from touched c group by 1, 2, 3, 4
    )
    -- The calls were read anyway: writers of calls wait for the end of this, so it reads no more of them for a warning.
    select coalesce(array_agg(a.id), '{}') into unused from unnest(added) a
    where not exists (
      select from shown c
      where c.first_at < a.valid_to and c.last_at >= a.valid_from
        and case a.field when 'our_number' then c.our_number = any (a.forms) when 'campaign_id' then c.campaign_id = a.value
                         when 'trunk_id' then c.trunk_id = a.value else c.account_id = a.value end);

    insert into vobiz.audit (action, account_id, detail)
    select 'customer_rule_changed', case when coalesce(i.field, w.field) = 'account_id' then coalesce(i.value, w.value) end,
           json_build_object('was', to_json(w), 'is', to_json(i))
    from unnest(removed) w full join unnest(added) i on i.id = w.id
    order by coalesce(i.id, w.id);
    perform vobiz.warn_of_rules(array(select a.id from unnest(added) a), unused);
    return null;
  end $$;
comment on function vobiz.apply_customer_rule() is
  'Trigger: refuses rules that overlap, moves the sums of the calls that have another customer now, notes the change in vobiz.audit, and warns of rules that look like slips.';
