//! Every setting of the agent, with its default and the reason for it.
//!
//! [`Settings`] holds them. They come of kube-proxy's configuration file and one of its own
//! ([`kube_proxy`]), which are read and watched by [`ConfigFiles`]; the command line
//! overrides them.

mod choices;
mod file;
pub mod kube_proxy;
mod port_range;

use std::path::PathBuf;

pub use choices::{AttachMode, SocketPathMode, XdpChoice};
pub use file::{ConfigFiles, FileError};
pub use kube_proxy::{
    LogLevel, LogSettings, MapSizes, OptionName, Override, ProxyAgentSettings, Setting, Settings,
    settings, with_overrides,
};
pub use port_range::PortRange;

use crate::source::kube::KubeSettings;

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Kube(KubeSettings),
    /// A folder of manifests.
    Files(PathBuf),
}

/// Where systemd mounts a BPF file system, and the command `mount` does.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// The agent's own socket, as the manifests have it.
pub const DEFAULT_PROBE_SOCKET: &str = "/run/proxy-agent/probe.sock";

/// In the place of a BPF file system: nothing shall outlive the agent.
pub const NO_BPFFS: &str = "none";
