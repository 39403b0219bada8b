//! From one desired state to the next, as an ordered stream of map writes.
//!
//! Their order is what makes updates atomic: for each port its backends, then its
//! slots, then the frontends that switch over to them; on the way down frontends go
//! first. A write is made as soon as it is planned, so that there is never a list of
//! them, however much changes at once. Slots
//! and backends that are in use are never written over: a Service's new endpoints
//! get a fresh span, and what they replace is handed back as [`Retired`], to be
//! used again only after a grace period of the kernel's readers.

mod adopt;
mod audit;
mod builder;
mod content;
mod flags;
mod group;
pub mod maglev;
mod names;
mod outcome;
mod planner;
mod pool;
mod programmed;
mod queries;
mod resets;
mod room;
mod slots;
mod span;
mod suspects;
mod write;

pub use adopt::IncompatibleMaps;
pub use content::{Content, Element};
pub use flags::unanswered_of;
pub use group::{After, Group};
pub use names::text as service_name;
pub use outcome::{CapacityError, FullMap, Plan, Retired};
pub use planner::{Capacity, Planner};
pub use queries::PortSets;
pub use suspects::{Moment, Observed, Step, Suspects};
pub use write::{BackendEntry, BackendId, FrontendId, Write, WrittenElement};
