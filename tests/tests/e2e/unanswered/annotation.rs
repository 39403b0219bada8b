//! Services that say themselves what becomes of connections whose endpoint does not answer.

use anyhow::{Result, ensure};
use proxy_tests::lab::{Namespace, Process, mirror};

use super::{Outcome, SUSPECTS, connect, metric, sent_again, wait_for_both, world};
use crate::world::World;

/// The first SYN of each connection is lost, before it comes to the endpoint of the second node.
const LOSE_FIRST: &str = "add table netdev dark\n\
    add chain netdev dark in { type filter hook ingress device eth0 priority 0; }\n\
    add set netdev dark v4 { type ipv4_addr . inet_service; flags dynamic; size 65535; }\n\
    add set netdev dark v6 { type ipv6_addr . inet_service; flags dynamic; size 65535; }\n\
    add rule netdev dark in tcp flags & (syn | ack) != syn accept\n\
    add rule netdev dark in ip saddr . tcp sport @v4 accept\n\
    add rule netdev dark in ip6 saddr . tcp sport @v6 accept\n\
    add rule netdev dark in add @v4 { ip saddr . tcp sport } drop\n\
    add rule netdev dark in add @v6 { ip6 saddr . tcp sport } drop\n";

const RETRIED: &str = "proxy_agent_connections_retried_total";

/// A Service with three endpoints, the third one on another node.
struct Scene {
    world: World,
    _servers: Vec<Process>,
    service: String,
}

impl Scene {
    fn new(arguments: &[&str]) -> Result<Self> {
        let world = world(arguments)?;
        let pods = [(1, 1), (1, 2), (2, 1)].map(|(node, pod)| world.cluster.pod(node, pod));
        let servers = mirror::start(pods)?;
        world.cluster.nodes[1].namespace.nft(LOSE_FIRST)?;
        let service = world.manifests.read(mirror::NAME)?;
        Ok(Self {
            world,
            _servers: servers,
            service,
        })
    }

    /// A Pod, whose sockets are translated, and a client outside.
    fn places(&self) -> [(&Namespace, bool); 2] {
        [
            (&self.world.cluster.pod(1, 3).namespace, true),
            (&self.world.cluster.client, false),
        ]
    }

    /// Gives the Service the annotation.
    fn say(&self, what: &str) -> Result<()> {
        let annotation =
            format!("namespace: default, annotations: {{proxy-agent/unanswered: \"{what}\"}}}}");
        let service = self.service.replace("namespace: default}", &annotation);
        ensure!(service != self.service);
        let manifests = &self.world.manifests;
        self.world
            .after_programming(|| manifests.write(mirror::NAME, &service))
    }

    fn retried(&self) -> Result<usize> {
        metric(&self.world, RETRIED)
    }

    /// Connections whose SYN is sent again reach the endpoint that they began with, and nothing counts.
    fn goes_on_as_it_is(&self) -> Result<()> {
        let before = self.retried()?;
        for (from, is_inside) in self.places() {
            let outcomes = connect(&self.world, from, is_inside, 60)?;
            ensure!(sent_again(&outcomes) > 0, "{outcomes:?}");
            let mut again = outcomes.iter().filter(|it| it.again > 0);
            ensure!(again.all(is_third), "{outcomes:?}");
        }
        ensure!(self.retried()? == before && metric(&self.world, SUSPECTS)? == 0);
        Ok(())
    }

    /// They reach another one, which nobody is avoided for.
    fn is_retried(&self) -> Result<()> {
        let mark = self.world.agents[0].mark();
        for (from, is_inside) in self.places() {
            let before = self.retried()?;
            let outcomes = connect(&self.world, from, is_inside, 60)?;
            let again = sent_again(&outcomes);
            ensure!(again > 0, "{outcomes:?}");
            ensure!(!outcomes.iter().any(is_third), "{outcomes:?}");
            ensure!(self.retried()? - before >= again, "{outcomes:?}");
        }
        ensure!(metric(&self.world, SUSPECTS)? == 0);
        let log = self.world.agents[0].log().split_off(mark);
        ensure!(
            !log.iter().any(|it| it.contains("does not answer")),
            "{log:?}"
        );
        Ok(())
    }

    /// Endpoints are avoided that do not answer.
    fn is_avoided(&self) -> Result<()> {
        for (from, is_inside) in self.places() {
            let mark = self.world.agents[0].mark();
            connect(&self.world, from, is_inside, 60)?;
            if metric(&self.world, SUSPECTS)? < 2 {
                wait_for_both(&self.world, mark, "does not answer")?;
            }
        }
        Ok(())
    }
}

fn is_third(outcome: &Outcome) -> bool {
    outcome.by == "pod-2-1"
}

#[test]
fn a_service_may_have_less_than_the_setting() -> Result<()> {
    let scene = Scene::new(&["--unanswered=avoid"])?;
    scene.say("off")?;
    scene.goes_on_as_it_is()?;
    scene.say("retry")?;
    scene.is_retried()
}

#[test]
fn a_service_may_have_more_than_the_setting() -> Result<()> {
    let scene = Scene::new(&["--unanswered=off"])?;
    scene.goes_on_as_it_is()?;
    scene.say("avoid")?;
    scene.is_avoided()?;
    let mark = scene.world.agents[0].mark();
    scene.say("retry")?;
    wait_for_both(&scene.world, mark, "is used again")?;
    scene.is_retried()
}
