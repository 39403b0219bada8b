//! NodePorts are nobody's to bind.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::{Family, PodNetwork, mirror};

use super::{ON, mirrors, python};

/// What becomes of a bind, by TCP and UDP.
const BIND: &str = "
print(*[attempt(open_socket(address, kind).bind, (address, port)) for kind in (TCP, UDP)])
";

fn any(family: Family, port: u16) -> SocketAddr {
    match family {
        Family::V4 => ([0; 4], port).into(),
        Family::V6 => ([0; 8], port).into(),
    }
}

#[test]
fn a_host_process_cannot_bind_a_node_port_and_a_pod_can() -> Result<()> {
    let (world, _servers) = mirrors(PodNetwork::Bridge, &ON, &[(1, 1)])?;
    let [(_, host), (_, pod)] = world.host_and_pod();
    let port = mirror::NODE_PORT;
    let loopback = ["127.0.0.1", "::1", "::ffff:127.0.0.1"];
    let taken = Family::BOTH
        .into_iter()
        .flat_map(|family| [any(family, port), world.node_port(1, family, port)])
        .chain(loopback.map(|it| SocketAddr::new(it.parse().unwrap(), port)));
    for at in taken {
        assert_eq!(
            python(host, BIND, at, &[])?,
            "EADDRINUSE EADDRINUSE",
            "{at}"
        );
    }
    for family in Family::BOTH {
        // Another port, and any port.
        for port in [port + 1, 0] {
            assert_eq!(python(host, BIND, any(family, port), &[])?, "ok ok");
        }
        assert_eq!(python(pod, BIND, any(family, port), &[])?, "ok ok");
    }
    world.after_programming(|| world.manifests.remove(mirror::NAME))?;
    for family in Family::BOTH {
        assert_eq!(python(host, BIND, any(family, port), &[])?, "ok ok");
    }
    Ok(())
}
