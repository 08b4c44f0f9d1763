//! What Vobiz says: its callbacks, its CDRs, its API. Wire names live only in here; from the endpoint on we say
//! `call_id`, `account_id`, CDR. Nothing in this room knows Postgres.

pub mod callback;
mod cdr;
mod client;
mod currency;
mod decimal;
mod filter;
mod header;
mod id;
mod json;
mod list;
mod number;
mod numeric;
mod owner;
mod payload;
mod plain;
mod plausible;
mod repeated;
pub mod signature;
mod stated;
mod time;
mod transport;
mod value;
pub mod written;

pub use callback::Callback;
pub(crate) use cdr::cdr_fields;
pub use cdr::{Cdr, CdrFields, Single, Unreadable, decode_single};
pub use client::{Access, Client, Credentials, FetchError, ListQuery, PathStyle};
pub use currency::is_currency;
pub use filter::ListFilter;
pub use header::ApiClock;
pub use id::{AccountId, CallId, InvalidId};
pub use list::{ListPage, MOST_ROWS, RowError, Summary, decode_list};
pub use number::{HomeCountry, InvalidCountry, e164};
pub use numeric::{Half, InvalidNumeric, Numeric};
pub use payload::{Overlap, Payload};
pub use plain::{is_hidden, plain, plain_json, plain_lines};
pub use signature::{Proof, Proven, SignaturePolicy, Signers, Verifier};
pub use stated::StatedSeconds;
pub use time::Moment;
pub use transport::{Http, http_client};
