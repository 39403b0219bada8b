//! Where the programs run: on every edge device of the node, as devices come and
//! go, and at the sockets of processes ([`SocketPath`]).
//!
//! [`watch`](watch::DeviceWatch) knows the devices, [`device`] decides what each
//! one is, and [`Attacher`] puts the programs there: those of TC on all of them, and
//! XDP in front of these on uplinks.

mod attacher;
mod cgroup;
mod cleanup;
pub mod device;
mod features;
mod host_routes;
mod link;
mod local_routes;
mod pod_cgroups;
mod socket_hooks;
mod socket_path;
mod watch;
mod xdp;
mod xdp_features;

pub use attacher::{AttachError, Attacher, ReconcileOutcome, ReconcileScope};
pub use cgroup::{CgroupError, root as cgroup_root};
pub use cleanup::{CleanedDevice, clean_up};
pub use features::{FeatureError, Features};
pub use host_routes::OutputDevices;
pub use pod_cgroups::pod_cgroups;
pub use socket_path::{SocketPath, SocketPathError, scope};
pub use watch::{DeviceWatch, DeviceWatchError};
pub use xdp::{Uplinks, XdpError};
pub use xdp_features::natives as xdp_drivers;

/// An error with its causes, in one line.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = anyhow::Chain::new(error).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
