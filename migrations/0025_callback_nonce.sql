-- Which call a signature came with first. A signature covers no body, so a captured request would prove any call for ever: after a restart,
-- at another replica, once a process has forgotten it.

create table vobiz.callback_nonce (
  nonce   uuid        not null,
  month   timestamptz not null,
  call_id text        not null,
  uses    bigint      not null check (uses > 0),
  primary key (nonce, month)
) partition by range (month);

comment on table  vobiz.callback_nonce is 'One row per nonce of a signature that proved a callback, and month: written in the commit of the callback; a partition a month, dropped with that of vobiz.callback.';
comment on column vobiz.callback_nonce.nonce is 'The first 128 bits of SHA-256 over version and nonce (v3:…, v2:…).';
comment on column vobiz.callback_nonce.month is 'Beginning of the month (UTC) in which it came; a nonce that comes again in a later month has a row there as well, with its first call.';
comment on column vobiz.callback_nonce.call_id is 'The call that it came with first, the only one that it proves; empty for a callback without one.';
comment on column vobiz.callback_nonce.uses is 'How often it came; of the repeats only the first few have a row in vobiz.callback.';
