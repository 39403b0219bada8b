//! Whether a node is fit for the agent, before it is installed there.
//!
//! [`probe()`] asks the kernel for [`Facts`], [`findings`] makes of these what an operator reads: a
//! function without a side effect, so that every node can be written down as a test.

mod facts;
mod finding;
mod probe;
mod report;
mod rules;

pub use facts::{Device, Facts, OtherProxies, Ports, Role, Xdp};
pub use finding::{Finding, State};
pub use probe::{Options, probe};
pub use report::{json, table};
pub use rules::findings;
