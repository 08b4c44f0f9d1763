-- What hangup codes and texts mean: a table that users may edit.

create table vobiz.hangup_cause (
  code      integer unique,
  cause     text unique check (cause <> ''),
  name      text not null check (name <> ''),
  outcome   text not null check (outcome <> ''),
  effective boolean not null,
  constraint code_or_cause check ((code is null) <> (cause is null))
);

-- Yours to edit also where it is published.
alter table vobiz.hangup_cause replica identity full;

comment on table  vobiz.hangup_cause is 'The published hangup codes and texts, and how we group them. Both lists are open: what is not here has the outcome unknown. Yours to edit.';
comment on column vobiz.hangup_cause.code is 'hangup_cause_code of a CDR; NULL in a row about a text.';
comment on column vobiz.hangup_cause.cause is 'hangup_cause of a CDR, used where its code is not listed; NULL in a row about a code.';
comment on column vobiz.hangup_cause.name is 'Name as published; of a text: in words.';
comment on column vobiz.hangup_cause.outcome is 'Our grouping: completed, busy, no_answer, cancelled, rejected, invalid_number, barred, unreachable, network, credits, limit, application, machine, lost_race, timeout, unknown.';
comment on column vobiz.hangup_cause.effective is 'The network did its work, whether or not a person answered: counts as effective in the NER.';
