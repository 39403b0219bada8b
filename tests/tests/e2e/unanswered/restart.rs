//! An agent that ends while an endpoint is suspect, and the next one.

use anyhow::{Result, ensure};
use proxy_tests::lab::mirror;

use super::{SUSPECTS, connect, darken, metric, sent_again};
use crate::restarts::{End, Lasting};

#[test]
fn suspects_stay_until_the_next_agent_tries_them() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.arguments = vec!["--socket-path=on".to_owned()];
    it.start()?;
    let world = it.world.clone();
    it.add_mirror()?;
    let pods = [(1, 1), (1, 2), (2, 1)];
    it.scale(mirror::NAME, &pods)?;
    let _servers = mirror::start(pods.map(|(node, pod)| world.cluster.pod(node, pod)))?;
    let socket = &world.cluster.pod(1, 3).namespace;
    let outside = &world.cluster.client;
    ensure!(sent_again(&connect(&world, socket, true, 30)?) == 0);

    let dark = &world.cluster.nodes[1].namespace;
    dark.nft(&darken("eth0"))?;
    while metric(&world, SUSPECTS)? < 2 {
        connect(&world, socket, true, 20)?;
    }
    it.end(End::Killed)?;
    for (from, is_inside) in [(socket, true), (outside, false)] {
        // One trial of each IP version may have been due.
        ensure!(sent_again(&connect(&world, from, is_inside, 60)?) <= 2);
        ensure!(sent_again(&connect(&world, from, is_inside, 60)?) == 0);
    }

    it.start()?;
    while metric(&world, SUSPECTS)? < 2 {
        std::thread::yield_now();
    }
    dark.nft("delete table netdev dark\n")?;
    while metric(&world, SUSPECTS)? > 0 {
        connect(&world, socket, true, 20)?;
    }
    let outcomes = connect(&world, socket, true, 60)?;
    ensure!(outcomes.iter().any(|it| it.by == "pod-2-1"), "{outcomes:?}");
    Ok(())
}
