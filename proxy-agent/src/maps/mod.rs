//! The kernel's maps: the only place in the agent that calls `bpf(2)`.
//!
//! [`Maps`] is what the rest of the agent sees of them. [`KernelMaps`] is the
//! real thing; `FakeMaps` (feature `test-util`) keeps the same content in memory, where
//! the packet pipeline can run against it in tests.

mod affinity_record;
mod backend_state;
mod batch;
mod capabilities;
mod clock;
mod devices;
mod elements;
mod error;
#[cfg(feature = "test-util")]
mod fake;
mod filter;
mod flow_record;
mod flow_seed;
mod flow_table;
mod flows;
mod grace;
mod handles;
mod kernel;
mod lasting_maps;
mod layout5;
mod load;
mod mapped;
mod migrate;
mod netfilter_flows;
mod object;
mod opt_out;
mod pending;
mod pinned_link;
mod pinned_maps;
mod pins;
mod program_rejection;
mod programs;
mod read;
mod sizes;
mod standby;
mod syscall;
mod table;
mod trace;
mod trace_record;
mod translate;
mod writer;

pub use affinity_record::AffinityRecord;
pub use backend_state::BackendState;
pub use clock::now;
pub use devices::EdgeDevices;
pub(crate) use devices::xdp;
pub use error::MapError;
#[cfg(feature = "test-util")]
pub use fake::FakeMaps;
pub use filter::FilterRepairs;
pub use flow_record::FlowRecord;
pub use flows::{RecordTables, RecordUsage};
pub use grace::synchronize_rcu;
pub use kernel::{Counters, KernelMaps};
pub use lasting_maps::LastingMaps;
pub use load::{Loaded, Origin, load, load_new};
pub use migrate::Predecessor;
pub use netfilter_flows::{GivenFlow, NetfilterFlows, NotGiven, OpenNetfilterFlows};
pub use object::{SocketScope, object, release_object};
pub use opt_out::{Cgroup, OptOutCgroups};
pub(crate) use pinned_link::replace;
pub use pinned_maps::{PinnedMaps, PinnedMapsError};
pub use pins::{PinError, Pins, is_bpffs};
pub use program_rejection::ProgramRejection;
pub(crate) use program_rejection::running_kernel;
pub use programs::ProgramName;
pub(crate) use programs::classifier;
pub use read::Readable;
pub use standby::Standby;
pub use trace::{RENEWAL, TraceEvents, TraceLease};
pub use trace_record::TraceRecord;
pub use writer::Writer;

pub use crate::config::MapSizes;
use crate::plan::Write;

/// A place to which a plan can be written.
pub trait Maps {
    /// Carries out one write.
    fn write(&mut self, write: &Write) -> Result<(), MapError>;
}
