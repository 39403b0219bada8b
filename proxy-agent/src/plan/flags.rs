//! What a backend's element says of its endpoint: where it runs; for the sake of affinity, in which
//! sets of its Service port it is; what its Service says of connections that it does not answer.

use std::collections::HashMap;

use proxy_ebpf::layout::backend_flags::{
    AVOIDABLE, IN_CLUSTER_SET, IN_LOCAL_SET, LOCAL, RETRIED, SAYS_UNANSWERED,
};

use super::programmed::Programmed;
use crate::model::desired::{DesiredPort, Endpoint};
use crate::model::object::Unanswered;

/// The flags of each of the port's endpoints, in their order.
pub(super) fn of_endpoints(desired: &DesiredPort) -> Vec<u16> {
    let endpoints = desired.endpoints.iter();
    let mut flags: Vec<_> = endpoints
        .map(|endpoint| always(endpoint, desired.unanswered))
        .collect();
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
    let backends = programmed.backends.iter();
    let mut flags: HashMap<_, _> = backends
        .map(|(endpoint, index)| (*index, always(endpoint, programmed.unanswered)))
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

/// The flags that do not depend on sets.
fn always(endpoint: &Endpoint, unanswered: Option<Unanswered>) -> u16 {
    let local = if endpoint.local { LOCAL } else { 0 };
    let unanswered = match unanswered {
        None => 0,
        Some(Unanswered::Off) => SAYS_UNANSWERED,
        Some(Unanswered::Retry) => SAYS_UNANSWERED | RETRIED,
        Some(Unanswered::Avoid) => SAYS_UNANSWERED | RETRIED | AVOIDABLE,
    };
    local | unanswered
}

/// What the Service of a backend with these flags says of connections that are not answered.
pub fn unanswered_of(flags: u16) -> Option<Unanswered> {
    if flags & SAYS_UNANSWERED == 0 {
        None
    } else if flags & RETRIED == 0 {
        Some(Unanswered::Off)
    } else if flags & AVOIDABLE == 0 {
        Some(Unanswered::Retry)
    } else {
        Some(Unanswered::Avoid)
    }
}
