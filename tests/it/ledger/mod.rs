//! Each day compared with the list of Vobiz.

mod backfill;
mod check;
mod fence;
mod sub_accounts;
