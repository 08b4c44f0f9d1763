//! What ours is measured against, written as well as we could: each is what a good engineer would deploy who does not group
//! commits. All speak HTTP by the same server, check the same signatures, ask by the same client and store by the same upsert;
//! they differ in nothing but how the work meets Postgres.

pub(crate) mod bare;
pub(crate) mod receive;
pub(crate) mod single;
