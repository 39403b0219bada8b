//! What can go wrong between the agent and the kernel.

use std::io;

use super::program_rejection::{ProgramRejection, running_kernel};

/// An error of the kernel's maps or programs.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The object could not be loaded.
    #[error(
        "cannot load the eBPF object into Linux {} (5.15 or newer is needed, and CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON)",
        running_kernel()
    )]
    Load(#[from] aya::EbpfError),
    /// A program was refused.
    #[error(
        "Linux {} refused the program {name} (5.15 or newer is needed)",
        running_kernel()
    )]
    Program {
        /// The program's name in the object.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramRejection,
    },
    /// The object has no such map or program: the agent and the object are not
    /// from one build.
    #[error("the eBPF object has no {0}: agent and object are not from one build")]
    Missing(&'static str),
    /// A map refused a write.
    #[error("cannot write to the map {map}")]
    Write {
        /// The map's name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// A pinned map could not be opened.
    #[error("cannot open the pinned map {map}")]
    Open {
        /// The map's name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// A map's elements could not be read.
    #[error("cannot read the map {map}")]
    Read {
        /// The map's name.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A write beyond a map's size: the plan and the maps disagree.
    #[error("element {index} is beyond the map {map} with {size} elements")]
    Range {
        /// The map's name.
        map: &'static str,
        /// The element.
        index: u32,
        /// The map's size.
        size: u32,
    },
    /// The agent's folder in the BPF file system cannot be used.
    #[error(transparent)]
    Pins(#[from] super::PinError),
    /// A map could not be pinned.
    #[error("cannot pin the map {map}")]
    Pin {
        /// The map's name.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::pin::PinError,
    },
    /// A system call failed.
    #[error("{call} failed")]
    System {
        /// The call.
        call: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl MapError {
    /// The last error of a system call of this thread.
    pub(super) fn last_os_error(call: &'static str) -> Self {
        Self::System {
            call,
            source: io::Error::last_os_error(),
        }
    }
}
