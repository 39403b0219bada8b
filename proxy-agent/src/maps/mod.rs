//! The kernel's maps: the only place in the agent that calls `bpf(2)`.
//!
//! [`Maps`] is what the rest of the agent sees of them. [`KernelMaps`] is the
//! real thing; [`FakeMaps`] keeps the same content in memory, where the packet
//! pipeline can run against it in tests.

mod backend_state;
mod batch;
mod carry;
mod clock;
mod elements;
mod error;
mod fake;
mod filter;
mod flows;
mod foreign;
mod grace;
mod handles;
mod kernel;
mod left_out;
mod load;
mod mapped;
mod object;
mod pending;
mod pinned_link;
mod pins;
mod programs;
mod read;
mod refusal;
mod sizes;
mod syscall;
mod table;
mod translate;
mod writer;
mod xdp;

pub use backend_state::BackendState;
pub use carry::Predecessor;
pub use clock::now;
pub use error::MapError;
pub use fake::FakeMaps;
pub use filter::FilterMending;
pub use flows::{RecordTables, RecordUsage};
pub use foreign::ForeignFlows;
pub use grace::wait_for_readers;
pub use kernel::KernelMaps;
pub use left_out::{Cgroup, LeftOut};
pub use load::{Loaded, Origin, load, load_new};
pub use object::{SocketScope, object};
pub(crate) use pinned_link::replace;
pub use pins::{PinError, Pins, is_bpffs};
pub use programs::ProgramName;
pub(crate) use programs::classifier;
pub use read::Readable;
pub use refusal::Refusal;
pub(crate) use refusal::running_kernel;
pub use writer::Writer;
pub use xdp::XdpDevices;
pub(crate) use xdp::xdp;

pub use crate::config::MapSizes;
use crate::plan::Write;

/// A place to which a plan can be written.
pub trait Maps {
    /// Carries out one write.
    fn write(&mut self, write: &Write) -> Result<(), MapError>;
}
