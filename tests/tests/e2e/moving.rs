//! Moving in and out: this proxy and the rules that kube-proxy writes, the one after the other on a
//! node whose clients of all kinds go on.

mod clients;
mod kube_proxy;
mod takeover;
mod way_back;

use std::time::Duration;

use anyhow::Result;
use proxy_tests::lab::{Process, mirror};

use crate::hosts::be_strict;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);
/// How often each client asks before and after.
const ENOUGH: usize = 100;

/// As CNIs have it for what leaves for other addresses than Pods'. So netfilter tracks everything.
const CNI: &str = "\
table ip cni {
    chain post {
        type nat hook postrouting priority srcnat + 1;
        ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
    }
}
table ip6 cni {
    chain post {
        type nat hook postrouting priority srcnat + 1;
        ip6 saddr fd00:10:244::/48 ip6 daddr != fd00:10:244::/48 masquerade
    }
}
";

/// One endpoint on the node, and one on the other.
const ENDPOINTS: [(usize, usize); 2] = [(1, 1), (2, 1)];

/// The mirror, with its endpoints and their servers.
fn serve(world: &World) -> Result<Vec<Process>> {
    be_strict(&world.cluster)?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &ENDPOINTS)?;
    mirror::start(ENDPOINTS.map(|(node, pod)| world.cluster.pod(node, pod)))
}
