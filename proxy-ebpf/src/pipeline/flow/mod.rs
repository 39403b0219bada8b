//! Flows: their records, the lifetime of these, and the owners of translated tuples.
//!
//! A flow is *unestablished* until its client sends a packet after an answer, then it is
//! *established*; [`owner`] says when another flow may claim its translated tuple.

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
