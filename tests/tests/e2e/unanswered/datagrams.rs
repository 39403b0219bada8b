//! Flows of UDP whose endpoint cannot be reached, as routers say.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Family, PodNetwork, mirror};

use super::{SUSPECTS, metric, wait_for_both};
use crate::world::World;

/// Asks `count` times, each time from another port, at each of the addresses and ports; prints who
/// answered, or `unreachable` where an error has come that says so.
const ASK: &str = r#"
import errno, json, socket, sys
first, count = int(sys.argv[1]), int(sys.argv[2])
to = list(zip(sys.argv[3::2], sys.argv[4::2]))
# linux/in.h, linux/in6.h
IP_RECVERR, IPV6_RECVERR = 11, 25

def ask(source_port, address, port):
    is_v6 = ":" in address
    with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as it:
        level, option = (socket.IPPROTO_IPV6, IPV6_RECVERR) if is_v6 else (socket.IPPROTO_IP, IP_RECVERR)
        it.setsockopt(level, option, 1)
        it.settimeout(10)
        it.bind(("", source_port))
        it.connect((address, int(port)))
        it.send(b"who\n")
        try:
            return it.recv(100).decode().split()[0]
        except OSError as error:
            if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                return "unreachable"
            raise

print(json.dumps([ask(first + n, *it) for n in range(count) for it in to]))
"#;

/// The Pod 3 of node 1, which asks by the Service's ClusterIPs. Each question is a flow of its own.
struct Client<'a> {
    world: &'a World,
    next_port: u16,
}

impl Client<'_> {
    fn ask(&mut self, count: u16) -> Result<Vec<String>> {
        let mut python = self.world.cluster.pod(1, 3).namespace.command("python3");
        python.args(["-c", ASK, &self.next_port.to_string(), &count.to_string()]);
        self.next_port += count;
        for family in Family::BOTH {
            let to = mirror::cluster_ip(family);
            python.args([to.ip().to_string(), to.port().to_string()]);
        }
        let output = python.output()?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).context(told)
    }
}

fn unreachable(outcomes: &[String]) -> usize {
    outcomes.iter().filter(|it| *it == "unreachable").count()
}

#[test]
fn endpoints_that_routers_cannot_reach_are_left_alone() -> Result<()> {
    let world = World::new(PodNetwork::Bridge)?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(1, 1), (1, 2), (2, 1)])?;
    let _servers = mirror::start([(1, 1), (1, 2), (2, 1)].map(|(n, p)| world.cluster.pod(n, p)))?;
    let node = &world.cluster.nodes[0].namespace;
    // So that each datagram is answered by an error.
    node.sysctl("net/ipv4/icmp_ratemask", "0")?;
    node.sysctl("net/ipv6/icmp/ratelimit", "0")?;
    let third = &world.cluster.pod(2, 1).addresses;
    let [v4, v6] = Family::BOTH.map(|family| third.of(family));
    let reject = format!(
        "add table inet lost\n\
         add chain inet lost through {{ type filter hook forward priority 0; }}\n\
         add rule inet lost through ip daddr {v4} udp dport 7777 reject with icmp host-unreachable\n\
         add rule inet lost through ip6 daddr {v6} udp dport 7777 reject with icmpv6 addr-unreachable\n"
    );
    let mut client = Client {
        world: &world,
        next_port: 10_000,
    };
    ensure!(unreachable(&client.ask(20)?) == 0);

    let mark = world.agents[0].mark();
    node.nft(&reject)?;
    let before = metric(&world, "proxy_agent_flows_unreachable_total")?;
    let outcomes = client.ask(40)?;
    ensure!(unreachable(&outcomes) > 0, "{outcomes:?}");
    let counted = metric(&world, "proxy_agent_flows_unreachable_total")? - before;
    ensure!(counted == unreachable(&outcomes), "{counted}: {outcomes:?}");
    wait_for_both(&world, mark, "does not answer")?;

    let trials = metric(&world, "proxy_agent_endpoint_trials_total")?;
    let outcomes = client.ask(40)?;
    let trials = metric(&world, "proxy_agent_endpoint_trials_total")? - trials;
    ensure!(
        unreachable(&outcomes) <= trials,
        "{trials} trials: {outcomes:?}"
    );

    let mark = world.agents[0].mark();
    node.nft("delete table inet lost\n")?;
    while metric(&world, SUSPECTS)? > 0 {
        client.ask(10)?;
    }
    wait_for_both(&world, mark, "is used again")?;
    let outcomes = client.ask(40)?;
    ensure!(unreachable(&outcomes) == 0, "{outcomes:?}");
    ensure!(outcomes.iter().any(|it| it == "pod-2-1"), "{outcomes:?}");
    Ok(())
}
