-- The settings that the bill follows, the rules of customers, and the sums.

create or replace trigger billing_zone_checked before insert or update of billing_zone on vobiz.setting
  for each row execute function vobiz.check_billing_zone();

create or replace trigger billing_zone_set after insert on vobiz.setting
  for each row execute function vobiz.apply_billing_zone();

create or replace trigger billing_zone_changed after update on vobiz.setting
  for each row when (new.billing_zone is distinct from old.billing_zone) execute function vobiz.apply_billing_zone();

create or replace trigger customer_rule_begins before insert or update or delete on vobiz.customer_rule
  for each statement execute function vobiz.begin_customer_rule();

create or replace trigger customer_rule_is_read before insert or update on vobiz.customer_rule
  for each row execute function vobiz.read_customer_rule();

create or replace trigger home_country_changed after update on vobiz.setting
  for each row when (new.home_country is distinct from old.home_country) execute function vobiz.renew_number_forms();

create or replace trigger customer_rule_inserted after insert on vobiz.customer_rule
  referencing new table as "is" for each statement execute function vobiz.apply_customer_rule();

create or replace trigger customer_rule_updated after update on vobiz.customer_rule
  referencing old table as was new table as "is" for each statement execute function vobiz.apply_customer_rule();

create or replace trigger customer_rule_deleted after delete on vobiz.customer_rule
  referencing old table as was for each statement execute function vobiz.apply_customer_rule();

create or replace trigger customer_rule_is_not_truncated before truncate on vobiz.customer_rule
  for each statement execute function vobiz.refuse('the bill would not follow; delete the rules instead');

create or replace trigger rollup_is_not_truncated before truncate on vobiz.rollup
  for each statement execute function vobiz.refuse('the bill would be wrong; vobiz-cdr verify --repair recomputes what differs');

create or replace trigger rollup_day_is_not_truncated before truncate on vobiz.rollup_day
  for each statement execute function vobiz.refuse('the bill would be wrong; vobiz-cdr verify --repair recomputes what differs');

create or replace trigger rollup_delta_is_not_truncated before truncate on vobiz.rollup_delta
  for each statement execute function vobiz.refuse('the bill would be wrong; the service folds what is in it');
