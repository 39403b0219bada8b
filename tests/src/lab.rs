//! The parts of the lab; [`Cluster`] is where to start.

pub mod addresses;
pub mod agent;
pub mod bpffs;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod config_map;
pub mod directory;
mod ip;
pub mod load;
pub mod manifests;
pub mod mirror;
pub mod namespace;
pub mod node;
pub mod process;
pub mod server;
pub mod uplinks;

pub use addresses::Family;
pub use agent::Agent;
pub use bpffs::Bpffs;
pub use cgroup::Cgroup;
pub use client::Tally;
pub use cluster::{Cluster, Options};
pub use config_map::ConfigMap;
pub use directory::Directory;
pub use load::Load;
pub use manifests::Manifests;
pub use namespace::Namespace;
pub use node::{Node, Pod, PodNetwork};
pub use process::Process;
