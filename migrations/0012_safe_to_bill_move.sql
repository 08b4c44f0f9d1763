-- How far it was safe to bill, and when that changed.

create table vobiz.safe_to_bill_move (
  id         bigint generated always as identity primary key,
  account_id text        not null,
  at         timestamptz not null default vobiz.now(),
  safe_to    timestamptz not null,
  was        timestamptz,
  held_by    text        not null
);
create index safe_to_bill_move_account on vobiz.safe_to_bill_move (account_id, id);

comment on table  vobiz.safe_to_bill_move is 'Each move of safe_to_bill, forth and back; append only.';
comment on column vobiz.safe_to_bill_move.id is 'Order of moving.';
comment on column vobiz.safe_to_bill_move.account_id is 'The account.';
comment on column vobiz.safe_to_bill_move.at is 'When it was noticed.';
comment on column vobiz.safe_to_bill_move.safe_to is 'Where it stood from then on.';
comment on column vobiz.safe_to_bill_move.was is 'Where it stood before; null at first.';
comment on column vobiz.safe_to_bill_move.held_by is 'What held it there.';
