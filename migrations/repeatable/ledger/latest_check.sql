create or replace function vobiz.latest_check(d vobiz.provider_day) returns timestamptz
  language sql stable parallel safe
  as $$
    select greatest(d.to_at + interval '1 hour',
                    -- A check that was put off.
                    vobiz.now() + interval '15 minutes',
                    case when d.reopened_at is not null then vobiz.now() + interval '24 hours' end,
                    case when d.state in ('differs', 'unproven') then vobiz.now() + interval '7 days' end,
                    case when d.state <> 'open' then d.to_at + interval '90 days' end) + interval '1 minute'
  $$;
comment on function vobiz.latest_check(vobiz.provider_day) is
  'The latest instant at which the next check of a day can lie by its own rule (src/db/ledger/mod.rs); a later one was written under a clock that was ahead.';
