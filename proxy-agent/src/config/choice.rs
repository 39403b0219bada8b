//! Settings that are one of a few names.

use std::fmt;

/// How programs are attached to devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttachWay {
    /// By tcx where the kernel has it, else by a clsact filter.
    #[default]
    Auto,
    /// By tcx only (Linux 6.6).
    Tcx,
    /// By clsact filters only.
    Clsact,
}

/// On which uplinks XDP is used, where their drivers have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum XdpChoice {
    /// On hardware, or what a hypervisor shows as such, and bonds of it.
    #[default]
    Auto,
    /// On all. XDP cannot recognize a checksum that hardware is yet to complete, as packets
    /// from containers and virtual machines of the same host have it: such packets it
    /// breaks.
    Always,
    /// On none.
    Never,
}

/// Whose sockets are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SocketPathMode {
    /// Everybody's.
    #[default]
    On,
    /// The host's own. Pods' packets are translated, one by one.
    HostOnly,
    /// Nobody's: packets are translated, and the host's processes reach no Service.
    Off,
}

impl SocketPathMode {
    /// Its name, as it is set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::HostOnly => "host-only",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for SocketPathMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
