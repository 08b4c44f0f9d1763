create or replace view vobiz.customer_rule_use as
  with shown as materialized (
    select s.field, s.value, vobiz.alike(s.value) as alike
    from (
      select distinct 'our_number' as field, c.our_number as value from vobiz.cdr c
      union all
      select distinct 'campaign_id', c.campaign_id from vobiz.cdr c
      union all
      select distinct 'trunk_id', c.trunk_id from vobiz.cdr c
      union all
      select 'account_id', o.account_id from vobiz.call_owner o) s
    where s.value is not null
  )
  select r.id, r.field, r.value, r.customer, r.valid_from, r.valid_to, coalesce(u.calls, 0)::bigint as calls, u.first_at, u.last_at,
         vobiz.like_rules(r) as like_rules,
         case when u.id is null then (
           select min(s.value) from shown s where s.field = r.field and s.alike = vobiz.alike(r.value) and s.value <> all (r.forms)) end as like_calls
  from vobiz.customer_rule r
  left join (
    select m.id, count(*) as calls, min(m.day_at) as first_at, max(m.day_at) as last_at
    from (
      select n.id, c.day_at
      from vobiz.cdr c join vobiz.number_rule n on n.form = c.our_number and vobiz.rule_is_valid(n.valid_from, n.valid_to, c.day_at)
      union all
      select k.id, c.day_at from vobiz.cdr c join vobiz.customer_rule k on vobiz.rule_holds(k, 'campaign_id', c.campaign_id, c.day_at)
      union all
      select t.id, c.day_at from vobiz.cdr c join vobiz.customer_rule t on vobiz.rule_holds(t, 'trunk_id', c.trunk_id, c.day_at)
      union all
      select a.id, c.day_at from vobiz.cdr c join vobiz.customer_rule a on vobiz.rule_holds(a, 'account_id', c.account_id, c.day_at)) m
    group by m.id) u on u.id = r.id;

comment on view   vobiz.customer_rule_use is 'What each rule of vobiz.customer_rule is about: a rule that matches no call, or that differs from another one or from the calls only by blanks or letter case, is probably a slip. It reads all calls.';
comment on column vobiz.customer_rule_use.id is 'Number of the rule.';
comment on column vobiz.customer_rule_use.field is 'What is looked at: our_number, campaign_id, trunk_id or account_id.';
comment on column vobiz.customer_rule_use.value is 'What it says.';
comment on column vobiz.customer_rule_use.customer is 'The customer.';
comment on column vobiz.customer_rule_use.valid_from is 'First billing instant for which the rule holds.';
comment on column vobiz.customer_rule_use.valid_to is 'First billing instant for which it holds no more.';
comment on column vobiz.customer_rule_use.calls is 'Calls that it matches, also where a rule that goes before it decides whose they are.';
comment on column vobiz.customer_rule_use.first_at is 'Billing instant (day_at) of the first of them; NULL without calls.';
comment on column vobiz.customer_rule_use.last_at is 'Billing instant of the last of them; NULL without calls.';
comment on column vobiz.customer_rule_use.like_rules is 'Other rules whose customer, or whose value, differs only by blanks or letter case.';
comment on column vobiz.customer_rule_use.like_calls is 'Of a rule without calls: what calls show that differs only by blanks or letter case.';
