create or replace function vobiz.make_partition(parent text, month date) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
  as $$
  declare
    first date := date_trunc('month', month::timestamp)::date;
    after date := (date_trunc('month', month::timestamp) + interval '1 month')::date;
    name  text := format('%s_%s', parent, to_char(month, 'YYYY_MM'));
  begin
    if parent not in ('callback', 'callback_nonce', 'cdr_revision') then
      raise exception 'vobiz.% has no partitions', parent using errcode = 'invalid_parameter_value';
    end if;
    execute format('create table if not exists vobiz.%I (like vobiz.%I including defaults including constraints)', name, parent);
    execute format('comment on table vobiz.%I is %L', name,
                   format('Partition of vobiz.%s: %s (UTC).', parent, to_char(month, 'FMMonth YYYY')));
    execute format('alter table vobiz.%I attach partition vobiz.%I for values from (%L) to (%L)', parent, name,
                   first || ' 00:00:00+00', after || ' 00:00:00+00');
  end $$;
comment on function vobiz.make_partition(text, date) is 'Makes the partition of a month of vobiz.callback, vobiz.callback_nonce or vobiz.cdr_revision, with the rights of their owner.';
