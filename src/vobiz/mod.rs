//! What Vobiz says: its callbacks, its CDRs, its API. Wire names live only in here; from the door on we say
//! `call_id`, `account_id`, CDR. Nothing in this room knows Postgres.

mod id;

pub use id::{AccountId, CallId, InvalidId};
