-- That a lease has ended, or that the session that took it is gone, frees it; so does an end further away than twice the length of a lease,
-- which a clock wrote that was ahead. (A little ahead it may well have been: a clock that is set right robs nobody who works.)
create or replace function vobiz.is_free(w vobiz.work_lease, length interval) returns boolean
  language sql stable
  as $$
    select w.holder is null or w.expires_at <= vobiz.now() or w.expires_at > vobiz.now() + 2 * length
        -- Of the sessions of others a user may see no more than that they are there.
        or not exists (select from pg_catalog.pg_stat_activity a
                       where a.pid = w.pid and coalesce(a.backend_start, w.session_began_at) = w.session_began_at)
  $$;
comment on function vobiz.is_free(vobiz.work_lease, interval) is
  'Whether the next one may take the lease, each of which is of this length.';
