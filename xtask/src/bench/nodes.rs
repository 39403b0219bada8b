//! The lab of measurements that need two nodes with Pods, and objects in a folder.

use anyhow::Result;
use proxy_tests::lab::{Cluster, Manifests, Options, PodNetwork};

use crate::{interrupt, terminal};

/// Lays it out, for as long as it is kept, or until Ctrl-C.
pub(super) fn lay_out(pods_per_node: u8) -> Result<(Cluster, Manifests)> {
    terminal::note("laying out the lab");
    interrupt::clean_up()?;
    let cluster = Cluster::new(Options {
        network: PodNetwork::Routed,
        pods_per_node,
    })?;
    let manifests = Manifests::copy_examples(cluster.directory.path())?;
    Ok((cluster, manifests))
}
