//! Flows: their records, how long these live, and who owns a translated tuple.
//!
//! A flow is *opening* until its client is heard again after an answer, then it is
//! *open*; [`owner`] says when its translated tuple may be another's.

pub(crate) mod apply;
pub(crate) mod capabilities;
pub(crate) mod claim;
pub(crate) mod lifetime;
pub(crate) mod lookup;
pub(crate) mod owner;
pub(crate) mod record;
mod source_port;
pub(crate) mod state;
pub(crate) mod traffic;
