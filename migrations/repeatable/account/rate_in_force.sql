-- A share that was set in the future was set under a clock that was wrong: nothing has come back of it yet.
create or replace function vobiz.rate_in_force(a vobiz.account) returns double precision
  language sql stable parallel safe
  as $$ select least(1, a.rate_share + 0.01 * greatest(0, extract(epoch from vobiz.now() - a.rate_share_at)::double precision)) $$;
comment on function vobiz.rate_in_force(vobiz.account) is
  'Share of VOBIZ_MAX_RPS that the account may use now: what was left when it was throttled, and 0.01 more each second since.';
