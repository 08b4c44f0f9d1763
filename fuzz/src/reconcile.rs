//! The readers of the room `reconcile`, from their own files, without what compares in Postgres.

#[path = "../../src/reconcile/cell.rs"]
mod cell;
#[path = "../../src/reconcile/csv.rs"]
mod csv;
#[path = "../../src/reconcile/date.rs"]
mod date;
#[path = "../../src/reconcile/decimal.rs"]
mod decimal;
#[path = "../../src/reconcile/header.rs"]
mod header;
#[path = "../../src/reconcile/heading.rs"]
mod heading;
#[path = "../../src/reconcile/quotes.rs"]
mod quotes;
#[path = "../../src/reconcile/row.rs"]
mod row;
#[path = "../../src/reconcile/text.rs"]
mod text;
#[path = "../../src/reconcile/total.rs"]
mod total;
#[path = "../../src/reconcile/wrong.rs"]
mod wrong;

pub use cell::Spelling;
pub use csv::{Export, FileFacts};
pub use date::DateOrder;
pub use decimal::DecimalMark;
pub use wrong::Wrong;
