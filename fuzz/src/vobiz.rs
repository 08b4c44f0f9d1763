//! The room `vobiz`, from its own files, without the parts that speak HTTP. What is not listed here is not fuzzed.

#[path = "../../src/vobiz/callback.rs"]
pub mod callback;
#[path = "../../src/vobiz/cdr.rs"]
mod cdr;
#[path = "../../src/vobiz/currency.rs"]
mod currency;
#[path = "../../src/vobiz/decimal.rs"]
mod decimal;
#[path = "../../src/vobiz/id.rs"]
mod id;
#[path = "../../src/vobiz/json.rs"]
mod json;
#[path = "../../src/vobiz/list.rs"]
mod list;
#[path = "../../src/vobiz/number.rs"]
mod number;
#[path = "../../src/vobiz/numeric.rs"]
mod numeric;
#[path = "../../src/vobiz/owner.rs"]
mod owner;
#[path = "../../src/vobiz/payload.rs"]
mod payload;
#[path = "../../src/vobiz/plain.rs"]
mod plain;
#[path = "../../src/vobiz/plausible.rs"]
mod plausible;
#[path = "../../src/vobiz/repeated.rs"]
mod repeated;
#[path = "../../src/vobiz/signature.rs"]
pub mod signature;
#[path = "../../src/vobiz/stated.rs"]
mod stated;
#[path = "../../src/vobiz/time.rs"]
mod time;
#[path = "../../src/vobiz/value.rs"]
mod value;
#[path = "../../src/vobiz/written.rs"]
pub mod written;

// It asks the layer below the readers, which is the room's own.
#[path = "target/wallet.rs"]
pub mod wallet;

pub use callback::Callback;
pub(crate) use cdr::cdr_fields;
pub use cdr::{Cdr, CdrFields, Single, Unreadable, decode_single};
pub use currency::is_currency;
pub use id::{AccountId, CallId, InvalidId};
pub use list::{ListPage, MOST_ROWS, RowError, Summary, decode_list};
pub use number::{HomeCountry, InvalidCountry, e164};
pub use numeric::{Half, InvalidNumeric, Numeric};
pub use payload::{Overlap, Payload};
pub use plain::{is_hidden, plain, plain_json, plain_lines};
pub use stated::StatedSeconds;
pub use time::Moment;
