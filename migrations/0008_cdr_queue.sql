-- The queue: one row per call whose CDR we owe. due_at is its only clock, lease_id its fence.
-- account_id has no foreign key on purpose: it would make every callback lock the row on which all leases wait.

create sequence vobiz.lease_id as bigint;
comment on sequence vobiz.lease_id is 'A new number for every lease: a late holder is known by its old one.';

create table vobiz.cdr_queue (
  -- Just what the service takes for a call id (src/vobiz/id.rs): a row with another one could be owed, and never fetched.
  call_id          text primary key check (
                     call_id ~ '^[A-Za-z0-9._:@+-]{1,255}$'
                     and call_id not in ('.', '..', 'search', 'recent', 'export')
                     and call_id !~ '^(0+|-+|[0-]{36}|-1|0[.]0)$'
                     and lower(call_id collate "C") not in
                       ('undefined', 'null', 'none', 'nil', 'nan', 'true', 'false', 'unknown', 'empty', 'uuid', 'calluuid', 'call_uuid', 'call-uuid')
                     and (call_id !~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' or call_id !~ '[A-F]')),
  account_id       text        not null,
  account_proven   boolean     not null,
  certain          boolean     not null,
  by_secret        boolean     not null default false,
  other_account_id text        check (other_account_id <> account_id),
  sip_call_id      text,
  enqueued_at      timestamptz not null default vobiz.now(),
  announced_at     timestamptz,
  due_at           timestamptz not null,
  lease_id         bigint,
  attempts         integer     not null default 0 check (attempts >= 0),
  failures         integer     not null default 0 check (failures >= 0),
  error_class      text        check (error_class in
                     ('not_yet', 'unavailable', 'refused', 'unreadable', 'unstorable', 'never_appeared')),
  last_error       text,
  first_failed_at  timestamptz,
  first_not_yet_at timestamptz,
  hurried          smallint    not null default 0 check (hurried >= 0),
  dead_at          timestamptz,
  last_body        bytea       check (length(last_body) <= 65536),
  -- A question that was answered is not asked again.
  asked            text[]      not null default '{}',
  -- The order of leasing: what strangers can multiply never stands before what they cannot.
  priority         smallint    not null generated always as (
                     case when not certain then 3 when attempts > 0 then 2 when by_secret then 1 else 0 end) stored,
  -- A call has failed, with a class, an error and a time, or it has not.
  constraint failure_is_whole check (
    (failures = 0) = (error_class is null)
    and (failures = 0) = (first_failed_at is null)
    and (failures = 0) = (last_error is null)),
  -- A dead letter has a class that can be final, and what is final is dead.
  constraint dead_letter_has_its_class check (
    dead_at is null
    or (error_class is not null and error_class in ('never_appeared', 'refused', 'unavailable', 'unreadable', 'unstorable'))),
  constraint final_class_is_dead check (
    dead_at is not null or error_class is null or error_class not in ('never_appeared', 'unstorable')),
  -- Only a certain call dies; a speculative one is closed.
  constraint speculative_never_dies check (dead_at is null or certain)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index cdr_queue_due  on vobiz.cdr_queue (account_id, priority, due_at) where dead_at is null;
create index cdr_queue_dead on vobiz.cdr_queue (account_id, error_class, dead_at) where dead_at is not null;

comment on table  vobiz.cdr_queue is 'One row per call whose CDR we owe; storing the CDR deletes the row in the same transaction. dead_at marks a dead letter.';
comment on column vobiz.cdr_queue.call_id is 'The call we owe.';
comment on column vobiz.cdr_queue.account_id is 'Account that is asked for it.';
comment on column vobiz.cdr_queue.account_proven is 'The account was named by a signature or by a secret of its own; if false, by the text of the callback or by being the only one.';
comment on column vobiz.cdr_queue.certain is 'A proven hang-up announced it. If false it is speculative: closed as not_found after an hour of 404, never dead.';
comment on column vobiz.cdr_queue.by_secret is 'It is certain by the secret in a path alone, which whoever knows it can write onto any call: it is leased after what a signature or a list made certain.';
comment on column vobiz.cdr_queue.other_account_id is 'A second account that has proved the call to be its own, or a sub-account that has where a main account was only named: the two are asked in turn.';
comment on column vobiz.cdr_queue.sip_call_id is 'SIP Call-ID of a trunk hang-up: the second way to find the CDR.';
comment on column vobiz.cdr_queue.enqueued_at is 'When it was owed first.';
comment on column vobiz.cdr_queue.announced_at is 'When the first callback was committed; null if no callback owes it.';
comment on column vobiz.cdr_queue.due_at is 'Not leased before this instant: first fetch, end of a lease or of a backoff.';
comment on column vobiz.cdr_queue.lease_id is 'Number of the last lease: the fence for postponing and burying.';
comment on column vobiz.cdr_queue.attempts is 'Requests answered for this call so far, of every class.';
comment on column vobiz.cdr_queue.failures is 'Failures in a row of the class in error_class.';
comment on column vobiz.cdr_queue.error_class is 'Class of the last failure; for a dead letter, why it died.';
comment on column vobiz.cdr_queue.last_error is 'The last failure in words.';
comment on column vobiz.cdr_queue.first_failed_at is 'First failure of the present class.';
comment on column vobiz.cdr_queue.first_not_yet_at is 'First real 404: the age of a call that never appears runs from here.';
comment on column vobiz.cdr_queue.hurried is 'How often a further proven hang-up has made it due again before its wait for a record was over: twice at most.';
comment on column vobiz.cdr_queue.dead_at is 'When it became a dead letter; it waits for an operator, a sweep, or a revive.';
comment on column vobiz.cdr_queue.last_body is 'Up to 64 KiB of an answer that could not be read or stored.';
comment on column vobiz.cdr_queue.priority is 'Order of leasing: 0 certain and never asked for, 1 the same by a secret alone, 2 certain and asked for before, 3 speculative.';
comment on column vobiz.cdr_queue.asked is 'Other accounts that do not have the call: each is asked once, before a call that never appeared is given up.';

create table vobiz.closed_call (
  id            bigint generated always as identity primary key,
  call_id       text        not null,
  account_id    text        not null,
  certain       boolean     not null,
  closed_at     timestamptz not null default vobiz.now(),
  reason        text        not null check (reason in
                  ('not_found', 'other_id', 'refused', 'unavailable', 'unreadable', 'never_appeared', 'by_operator')),
  evidence      text        not null,
  found_call_id text        check ((reason = 'other_id') = (found_call_id is not null)),
  announced_at  timestamptz
);
create index closed_call_call_id on vobiz.closed_call (call_id);

comment on table  vobiz.closed_call is 'Calls that left the queue without a CDR of their own id, each with its evidence; append only.';
comment on column vobiz.closed_call.id is 'Order of closing.';
comment on column vobiz.closed_call.call_id is 'The call that was owed.';
comment on column vobiz.closed_call.account_id is 'The account that was asked.';
comment on column vobiz.closed_call.certain is 'Whether a proven hang-up had announced it.';
comment on column vobiz.closed_call.closed_at is 'When it was closed.';
comment on column vobiz.closed_call.reason is 'not_found: speculative, and 404 for an hour; refused, unreadable: speculative, and answered so five times; unavailable: speculative, and so for three days while other calls came; other_id: the CDR has another id, found by its SIP Call-ID; never_appeared: 404 for a day, and the settled days around it lack it; by_operator: see vobiz.audit.';
comment on column vobiz.closed_call.evidence is 'What was seen, in words.';
comment on column vobiz.closed_call.found_call_id is 'For other_id: the id under which the CDR is stored.';
comment on column vobiz.closed_call.announced_at is 'When the callback that owed it was committed.';
