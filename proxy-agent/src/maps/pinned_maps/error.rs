//! Why pinned maps cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use proxy_ebpf::layout::VERSION;

use crate::maps::MapError;
use crate::maps::capabilities::missing_for_maps;

/// There are no pinned maps that can be read.
#[derive(Debug, thiserror::Error)]
pub enum PinnedMapsError {
    /// There is no BPF file system.
    #[error(
        "there is no BPF file system at {} (is this the host's mount namespace, and the --bpffs of the agent?)",
        .0.display()
    )]
    NoFileSystem(PathBuf),
    /// Nobody has pinned maps.
    #[error(
        "no agent has pinned maps in {} (is the agent installed on this node, and is this its --bpffs?)",
        .0.display()
    )]
    Absent(PathBuf),
    /// Those of other agents.
    #[error(
        "the maps in {} have layout version {found}, this program reads version {VERSION} (use the proxy-agent of the agent's own image)",
        bpffs.display()
    )]
    OtherVersion {
        /// The file system.
        bpffs: PathBuf,
        /// Their versions.
        found: String,
    },
    /// The process may not read them.
    #[error(
        "not allowed to read the maps in {}: this process lacks {missing} (run it as root, or in the agent's Pod)",
        bpffs.display()
    )]
    Denied {
        /// The file system.
        bpffs: PathBuf,
        /// What it would take.
        missing: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The programs are of an agent that knew nothing of events.
    #[error(
        "the agent of this node is older than this program, and its programs tell of no events (update it)"
    )]
    WithoutEvents,
    /// Somebody has the events.
    #[error(
        "another `proxy-agent trace` listens on this node, and events are read once (end it first)"
    )]
    Listening,
    /// A map cannot be read.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl PinnedMapsError {
    /// The folder of an agent cannot be read.
    pub(super) fn of_folder(bpffs: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Absent(bpffs.to_owned()),
            io::ErrorKind::PermissionDenied => Self::denied(bpffs, source),
            _ => Self::Map(MapError::System {
                call: "reading the folder of pins",
                source,
            }),
        }
    }

    /// A map cannot be opened.
    pub(super) fn of_map(bpffs: &Path, source: MapError) -> Self {
        // bpf(2) says EPERM, and a pin EACCES.
        let is_denied = anyhow::Chain::new(&source)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| cause.kind() == io::ErrorKind::PermissionDenied);
        if is_denied {
            Self::denied(bpffs, source)
        } else {
            source.into()
        }
    }

    fn denied(bpffs: &Path, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Denied {
            bpffs: bpffs.to_owned(),
            missing: missing_for_maps(),
            source: Box::new(source),
        }
    }
}
