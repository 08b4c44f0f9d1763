//! The schema and the roles that may use it.

mod migration;
mod role;
