-- Rules keep their forms as the text before read them. Where this one reads them otherwise they are written anew, by the triggers that also
-- move the sums of the calls: the bill and who is asked whose a call is never read two texts.
do $$
declare
  home constant text := (select s.home_country from vobiz.setting s);
begin
  if exists (select from vobiz.customer_rule r where r.forms is distinct from vobiz.forms_of_rule(r.field, r.value, home)) then
    update vobiz.customer_rule r set value = r.value where r.forms is distinct from vobiz.forms_of_rule(r.field, r.value, home);
  end if;
end $$;
