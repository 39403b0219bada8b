//! Devices come and go.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::{Family, PodNetwork, client, server};

use crate::world::{World, cluster_ip};

/// A pod that starts after the agent is served as a client and as an endpoint;
/// when another one goes, the rest works.
fn pods_come_and_go(network: PodNetwork) -> Result<()> {
    let mut world = World::new(network)?;
    world.cluster.nodes[0].add_pod()?;
    let late = world.cluster.pod(1, 4);
    world.agents[0].wait_attached(&late.device)?;
    let directory = world.cluster.directory.path().join("late");
    let _http = server::start_http(&directory, [late])?;
    for family in Family::BOTH {
        let frontend = SocketAddr::new(cluster_ip("web", family), 80);
        client::http(&late.namespace, frontend)?;
    }
    world.scale("web", &[(1, 4)])?;
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    assert_eq!(
        client::http(&world.cluster.pod(2, 3).namespace, frontend)?,
        "pod-1-4"
    );

    let gone = world.cluster.pod(1, 2).device.clone();
    let mark = world.agents[0].mark();
    world.cluster.nodes[0]
        .namespace
        .ip(&[format!("link del {gone}")])?;
    world.agents[0].wait_for(mark, |event| {
        event["fields"]["message"] == "detached" && event["fields"]["device"] == gone
    })?;
    assert_eq!(
        client::http(&world.cluster.pod(1, 3).namespace, frontend)?,
        "pod-1-4"
    );
    Ok(())
}

#[test]
fn bridged_pods_come_and_go() -> Result<()> {
    pods_come_and_go(PodNetwork::Bridge)
}

#[test]
fn routed_pods_come_and_go() -> Result<()> {
    pods_come_and_go(PodNetwork::Routed)
}
