//! Consistent hashing of clients, by the annotation `proxy-agent/lb-algorithm`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::ops::Range;
use std::time::Duration;

use anyhow::Result;
use proxy_tests::lab::Family;
use proxy_tests::lab::mirror::{self, Conversation};

use crate::rules::mirrors;
use crate::world::World;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The client's ports: each is a client of its own to the hash.
const PORTS: Range<u16> = 20_000..20_024;

fn with_maglev(service: &str) -> String {
    service.replace(
        "namespace: default}",
        "namespace: default, annotations: {proxy-agent/lb-algorithm: maglev}}",
    )
}

/// The pods that answer the client's ports at a node.
fn pods_by_port(world: &World, node: usize, family: Family) -> Result<BTreeMap<u16, String>> {
    let frontend = world.node_port(node, family, mirror::NODE_PORT);
    let any: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let ask = |port| -> Result<(u16, String)> {
        let socket = UdpSocket::bind((any, port))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect(frontend)?;
        Ok((port, Conversation::Udp(socket).ask()?.pod))
    };
    world.cluster.client.run(|| PORTS.map(ask).collect())?
}

#[test]
fn every_node_sends_a_client_to_the_same_endpoint() -> Result<()> {
    let (world, _servers) = mirrors(with_maglev)?;
    for family in Family::BOTH {
        let [first, second] = [1, 2].map(|node| pods_by_port(&world, node, family));
        let (first, second) = (first?, second?);
        assert_eq!(first, second);
        let reached: BTreeSet<_> = first.values().collect();
        assert!(reached.len() > 3, "{reached:?}");
    }
    Ok(())
}

#[test]
fn an_endpoint_that_leaves_takes_no_other_clients_along() -> Result<()> {
    let (world, _servers) = mirrors(with_maglev)?;
    let before = pods_by_port(&world, 1, Family::V4)?;
    let left = [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)];
    world.scale(mirror::NAME, &left)?;
    // By the other node, where no flow is remembered.
    let after = pods_by_port(&world, 2, Family::V4)?;
    let stayed = before.iter().filter(|(port, pod)| after[port] == **pod);
    let others = before.values().filter(|pod| *pod != "pod-2-3").count();
    let stayed = stayed.count();
    // Of six endpoints' slots a few in a hundred change hands besides.
    assert!(stayed + 2 >= others, "{stayed} of {others} stayed");
    Ok(())
}
