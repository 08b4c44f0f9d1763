create or replace function vobiz.provider_day_start_latest(account text, day date) returns timestamptz
  language sql stable parallel safe
  as $$
    select case when a.day_offset is null then vobiz.provider_day_start(account, day)
                else (day::timestamp at time zone 'UTC')
                     - least(a.day_offset,
                             (select interval '15 minutes' * ceil(extract(epoch from b.least) / 900)
                              from vobiz.provider_day_bound b where b.account_id = a.account_id and b.day_of = a.day_of and b.most > b.least)) end
    from vobiz.setting s left join vobiz.account a on a.account_id = account
  $$;
comment on function vobiz.provider_day_start_latest(text, date) is
  'The latest instant at which a provider day of this account may begin, of all zones that its lists leave possible; where the billing zone is one of them, that one.';
