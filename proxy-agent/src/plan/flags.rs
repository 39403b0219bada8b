//! What a backend's element says of its endpoint: where it runs and, for the sake of
//! affinity, in which sets of its Service port it is.

use std::collections::HashMap;

use proxy_ebpf::layout::backend_flags::{IN_CLUSTER_SET, IN_LOCAL_SET, LOCAL};

use super::programmed::Programmed;
use crate::model::desired::DesiredPort;

/// The flags of each of the port's endpoints, in their order.
pub(super) fn of_endpoints(desired: &DesiredPort) -> Vec<u16> {
    let local = |is_local| if is_local { LOCAL } else { 0 };
    let endpoints = desired.endpoints.iter();
    let mut flags: Vec<_> = endpoints.map(|endpoint| local(endpoint.local)).collect();
    // Without affinity nobody asks, and a change of the sets costs no writes for it.
    if desired.affinity.is_some() {
        for (set, member) in [
            (&desired.cluster, IN_CLUSTER_SET),
            (&desired.local, IN_LOCAL_SET),
        ] {
            for position in set {
                if let Some(flags) = flags.get_mut(*position) {
                    *flags |= member;
                }
            }
        }
    }
    flags
}

/// The flags that a port's backends have in the kernel, by index.
pub(super) fn of_backends(programmed: &Programmed) -> HashMap<u32, u16> {
    let local = |is_local| if is_local { LOCAL } else { 0 };
    let backends = programmed.backends.iter();
    let mut flags: HashMap<_, _> = backends
        .map(|(endpoint, index)| (*index, local(endpoint.local)))
        .collect();
    if programmed.affinity_seconds != 0 {
        let (cluster, local) = programmed.slots.split_at(programmed.cluster as usize);
        for (set, member) in [(cluster, IN_CLUSTER_SET), (local, IN_LOCAL_SET)] {
            for index in set {
                *flags.entry(*index).or_default() |= member;
            }
        }
    }
    flags
}
