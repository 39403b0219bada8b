//! A Service that grows and shrinks while clients use it: nobody may notice.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use anyhow::Result;
use proxy_tests::lab::{Family, Load, Namespace, Tally};

use super::{
    cluster::Running,
    table::{self, Row},
};

/// The endpoints of web, one size after the other, as (node, pod).
const SIZES: [&[(usize, usize)]; 4] = [
    &[(1, 1), (2, 1)],
    &[(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)],
    &[(2, 2)],
    &[(1, 1), (1, 2), (2, 2), (2, 3)],
];
/// Requests to wait for at each size, by endpoint: enough for all to get a turn.
const REQUESTS_AN_ENDPOINT: usize = 40;
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at each place at the same time.
const THREADS: usize = 2;

/// Walks through the sizes under load, and prints what each phase saw.
pub(super) fn watch(running: &Running) -> Result<Vec<Row>> {
    let places = places(running);
    let loads = places
        .iter()
        .map(|place| Load::start(place.namespace, place.address, THREADS))
        .collect::<Result<Vec<_>>>()?;
    for (step, pods) in SIZES.iter().enumerate() {
        if step > 0 {
            next_phase(&loads);
            running.set_web_endpoints(pods)?;
            next_phase(&loads);
        }
        for load in &loads {
            load.wait_for_requests(REQUESTS_AN_ENDPOINT * pods.len(), PATIENCE)?;
        }
    }
    let seen = loads
        .into_iter()
        .map(Load::stop)
        .collect::<Result<Vec<_>>>()?;

    table::print_head();
    let mut rows = Vec::new();
    for (place, phases) in places.iter().zip(seen) {
        for (phase, tally) in phases.into_iter().enumerate() {
            let row = row(place, phase, tally);
            row.print();
            rows.push(row);
        }
    }
    Ok(rows)
}

fn next_phase(loads: &[Load]) {
    for load in loads {
        load.next_phase();
    }
}

/// Where requests come from and go to.
struct Place<'a> {
    client: &'a str,
    namespace: &'a Namespace,
    family: Family,
    address: SocketAddr,
}

fn places(running: &Running) -> [Place<'_>; 2] {
    let [pod, _, outside] = running.clients();
    [
        Place {
            client: pod.0,
            namespace: pod.1,
            family: Family::V4,
            address: SocketAddr::from(([10, 96, 0, 10], 80)),
        },
        Place {
            client: outside.0,
            namespace: outside.1,
            family: Family::V6,
            address: SocketAddr::from(([0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x10], 80)),
        },
    ]
}

/// Even phases are steady, each at the next size; odd ones are the changes between.
fn row(place: &Place<'_>, phase: usize, tally: Tally) -> Row {
    let size = phase / 2;
    let (frontend, required, allowed) = if phase.is_multiple_of(2) {
        let pods = SIZES[size];
        let steady = format!("web, size {}", pods.len());
        (steady, names(pods), BTreeSet::new())
    } else {
        let (from, to) = (SIZES[size], SIZES[size + 1]);
        let change = format!("web, changing from {} to {}", from.len(), to.len());
        (change, BTreeSet::new(), &names(from) | &names(to))
    };
    Row {
        frontend,
        client: place.client.into(),
        family: place.family,
        tally,
        required,
        allowed,
    }
}

fn names(pods: &[(usize, usize)]) -> BTreeSet<String> {
    let name = |&(node, pod): &(usize, usize)| format!("pod-{node}-{pod}");
    pods.iter().map(name).collect()
}
