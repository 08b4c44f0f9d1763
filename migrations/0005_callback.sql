-- The raw inbound log: the requests received, exactly, and what was made of them.

create table vobiz.callback (
  id             uuid        not null,
  received_at    timestamptz not null,
  event          text        not null,
  call_id        text,
  account_id     text,
  proof          text        not null
                 check (proof in ('v3', 'ma-v3', 'v2', 'ma-v2', 'trunk', 'campaign', 'secret', 'none')),
  outcome        text        not null check (outcome in ('owed', 'logged', 'refused')),
  note           text,
  remote_address text,
  query          text,
  body           bytea       not null,
  primary key (id, received_at)
) partition by range (received_at);
create index callback_call_id on vobiz.callback (call_id);

comment on table  vobiz.callback is 'Every callback accepted (and a bounded sample of those refused), as it came; append only, a partition a month.';
comment on column vobiz.callback.id is 'UUIDv7 made at the endpoint: the correlation id in the logs.';
comment on column vobiz.callback.received_at is 'When its group was committed (vobiz.now()).';
comment on column vobiz.callback.event is 'Event name as sent (Hangup, Ring, contact.answered, …), at most 64 characters; empty if there was none.';
comment on column vobiz.callback.call_id is 'The call it talks about, where it names one.';
comment on column vobiz.callback.account_id is 'The configured account it was attributed to; null if to none.';
comment on column vobiz.callback.proof is 'What proved that it came from Vobiz: v3, ma-v3, v2, ma-v2, trunk, campaign (signatures), secret (path), or none.';
comment on column vobiz.callback.outcome is 'owed: it announced the end of a call that we then owed or already had; logged: kept, nothing to do; refused: answered 403 (a sample).';
comment on column vobiz.callback.note is 'Why it was only logged or refused, or what in it could not be read.';
comment on column vobiz.callback.remote_address is 'Peer address of the connection (the proxy, where there is one).';
comment on column vobiz.callback.query is 'Query string of the URL, as sent.';
comment on column vobiz.callback.body is 'Request body, byte for byte; of a long one that nothing proved, the beginning (see note).';
