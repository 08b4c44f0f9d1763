//! Callback in, call_id committed in a group, 200 out.
//!
//! What lives here: the endpoint (routes, proof, policy) and the group commit behind it. What does not: asking Vobiz. A callback says
//! *that* a call ended; what it was, only the CDR says.
//!
//! The promise: a 200 means committed to Postgres. If that cannot be, the answer is 503, and Vobiz calls again.

mod body;
mod caps;
mod differs;
mod endpoint;
mod group_commit;
mod proof;
mod refusal;
mod routes;
mod search;
mod unproven;

pub use endpoint::Endpoint;
use endpoint::unavailable;
pub use group_commit::{COMMIT_WITHIN, GroupCommit, GroupCommitSettings, NotCommitted};
pub use proof::EndpointSettings;
pub use routes::router;
