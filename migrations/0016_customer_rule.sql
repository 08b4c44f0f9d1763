-- Whose call it is.

create table vobiz.customer_rule (
  id         bigint      generated always as identity primary key,
  field      text        not null check (field in ('our_number', 'campaign_id', 'trunk_id', 'account_id')),
  value      text        not null check (value <> ''),
  customer   text        not null check (customer <> '' and customer <> 'unassigned'),
  valid_from timestamptz not null default '-infinity',
  valid_to   timestamptz not null default 'infinity',
  forms      text[]      not null default '{}',
  constraint valid_for_some_time check (valid_to > valid_from)
);
create index customer_rule_thing on vobiz.customer_rule (field, value, valid_from) include (valid_to, customer);
create index customer_rule_form on vobiz.customer_rule using gin (forms);

comment on table  vobiz.customer_rule is 'Whose calls they are: the calls of an own number, campaign, trunk or sub-account belong to a customer of ours for some time. Where several rules fit, an own number goes before a campaign, that before a trunk, that before a sub-account; where none fits, the call is ''unassigned''. A change recomputes the bill of the calls it touches, in the same transaction.';
comment on column vobiz.customer_rule.id is 'Number of the rule.';
comment on column vobiz.customer_rule.field is 'Column of vobiz.cdr that is looked at: our_number, campaign_id, trunk_id or account_id.';
comment on column vobiz.customer_rule.value is 'What it says, exactly; an own number also without + or with its 0, as it is read by vobiz.setting.home_country.';
comment on column vobiz.customer_rule.customer is 'The customer, by the name that the bill shows.';
comment on column vobiz.customer_rule.valid_from is 'First billing instant (day_at) for which the rule holds; a date without a zone is one of the billing zone.';
comment on column vobiz.customer_rule.valid_to is 'First billing instant for which it holds no more. Rules for the same thing may not overlap.';
comment on column vobiz.customer_rule.forms is 'Set by a trigger: what calls may show that is meant by value; of an own number its E.164 form, too.';
