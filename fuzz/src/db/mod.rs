//! What the readers of lists need of the room `db`.

pub mod reconcile;
