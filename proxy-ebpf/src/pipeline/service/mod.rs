//! Services: the frontend of a destination, and the endpoint of a new flow.

mod affinity;
pub(crate) mod frontend;
mod liveness;
pub(crate) mod pick;
#[cfg(any(test, feature = "host"))]
pub(crate) mod seen;
pub(crate) mod source;
