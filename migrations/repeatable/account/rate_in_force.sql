create or replace function vobiz.rate_in_force(a vobiz.account) returns double precision
  language sql stable parallel safe
  as $$ select least(1, a.rate_share + 0.01 * extract(epoch from vobiz.now() - a.rate_share_at)::double precision) $$;
comment on function vobiz.rate_in_force(vobiz.account) is
  'Share of VOBIZ_MAX_RPS that the account may use now: what was left when it was throttled, and 0.01 more each second since.';
