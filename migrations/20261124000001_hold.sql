-- The hold: calls of an account that list pages resolve, so that nobody fetches them singly meanwhile.

alter table vobiz.account
  add column listed_due_to timestamptz,
  add column listing_until timestamptz,
  -- A hold has an end, or there is none.
  add constraint hold_is_whole check ((listed_due_to is null) = (listing_until is null));

comment on column vobiz.account.listed_due_to is 'Calls that fell due at or before this instant are being resolved by pages of the list; null while none are.';
comment on column vobiz.account.listing_until is 'Until then nobody leases those calls. Whoever reads the list renews it with every page; if it dies, the hold runs out.';
comment on column vobiz.cdr.origin is 'How we came to know of it: callback (one announced it before it was stored, whoever brought the CDR), sweep (a list showed it and nothing had announced it), backfill or manual.';
comment on column vobiz.cdr.attempts is 'Single fetches answered for it until it was stored the first time; 0 if a list brought it before the first one.';
