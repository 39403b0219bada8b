//! Endpoints come and go while requests run.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use proxy_tests::lab::{Family, Load, PodNetwork};

use crate::world::{WEB_NODE_PORT, World, cluster_ip};

const CHANGES: u32 = 200;
const PODS: [(usize, usize); 6] = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)];

/// The endpoints after each change: one to six of the pods, any of them, never the
/// same twice in a row. A linear congruential generator (Numerical Recipes), so
/// that a failure repeats.
fn endpoint_sets() -> impl Iterator<Item = Vec<(usize, usize)>> {
    let mut state = 20_240_601_u32;
    let mut last = vec![(1, 1), (2, 1)];
    std::iter::from_fn(move || {
        loop {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let chosen: Vec<_> = PODS
                .iter()
                .enumerate()
                .filter(|(bit, _)| state >> (20 + bit) & 1 == 1)
                .map(|(_, pod)| *pod)
                .collect();
            if !chosen.is_empty() && chosen != last {
                last.clone_from(&chosen);
                return Some(chosen);
            }
        }
    })
}

#[test]
fn two_hundred_changes_under_requests_fail_not_one_connection() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    let cluster_ip = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let node_port = world.node_port(1, Family::V6, WEB_NODE_PORT);
    let inside = Load::start(&world.cluster.pod(1, 3).namespace, cluster_ip, 2)?;
    let outside = Load::start(&world.cluster.client, node_port, 2)?;
    for (change, endpoints) in (0..CHANGES).zip(endpoint_sets()) {
        world.scale("web", &endpoints)?;
        if change % 20 == 0 {
            inside.wait_for_requests(5, Duration::from_secs(10))?;
            outside.wait_for_requests(5, Duration::from_secs(10))?;
        }
    }
    for load in [inside, outside] {
        let phases = load.stop()?;
        let failures: Vec<_> = phases.iter().flat_map(|phase| &phase.failures).collect();
        assert_eq!(failures, Vec::<&String>::new());
        let requests: usize = phases.iter().map(proxy_tests::lab::Tally::requests).sum();
        println!("{requests} requests");
        assert!(requests > 200, "the load ran all the while");
        let answered = phases.iter().flat_map(|phase| phase.answers.keys());
        let answered: std::collections::BTreeSet<_> = answered.collect();
        assert_eq!(answered.len(), PODS.len(), "every pod had its turn");
    }
    Ok(())
}
