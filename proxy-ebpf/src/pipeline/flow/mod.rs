//! Flows: their records, their state, and the owners of translated tuples.
//!
//! A flow is *unestablished* until its client takes up the endpoint's answer, then it is
//! *established*; [`connection`] has what is believed of TCP's ends about that.

pub(crate) mod apply;
pub(crate) mod capabilities;
pub(crate) mod claim;
pub(crate) mod connection;
pub(crate) mod liveness;
pub(crate) mod lookup;
pub(crate) mod plain;
pub(crate) mod record;
pub(crate) mod retry;
pub(crate) mod source_port;
pub(crate) mod state;
pub(crate) mod traffic;
