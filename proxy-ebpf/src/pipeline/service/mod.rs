//! Services: which frontend a destination is, and which endpoint a new flow goes to.

mod affinity;
pub(crate) mod frontend;
pub(crate) mod pick;
