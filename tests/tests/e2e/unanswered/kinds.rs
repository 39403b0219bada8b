//! Kinds of darkness, and what only looks like it: each for a Pod's sockets, the host's, and for
//! packets from outside.

use anyhow::{Result, ensure};
use proxy_tests::lab::{Namespace, Process, mirror};

use super::{
    Outcome, SUSPECTS, are_left_alone, attempt, connect, darken, metric, sent_again, wait_for_both,
    world,
};
use crate::world::World;

/// Three endpoints, the third one on another node; the servers run.
fn scene() -> Result<(World, Vec<Process>)> {
    let world = world(&["--socket-path", "on"])?;
    let pods = [(1, 1), (1, 2), (2, 1)].map(|(node, pod)| world.cluster.pod(node, pod));
    let servers = mirror::start(pods)?;
    Ok((world, servers))
}

fn places(world: &World) -> [(&Namespace, bool); 3] {
    [
        (&world.cluster.pod(1, 3).namespace, true),
        (&world.cluster.nodes[0].namespace, true),
        (&world.cluster.client, false),
    ]
}

#[test]
fn a_pod_that_is_dark_alone_is_left_alone() -> Result<()> {
    let (world, _servers) = scene()?;
    let pod = &world.cluster.pod(2, 1).namespace;
    are_left_alone(&world, &places(&world), pod, &darken("eth0"))
}

#[test]
fn consistent_hashing_gives_way() -> Result<()> {
    let (world, _servers) = scene()?;
    let service = world.manifests.read(mirror::NAME)?;
    let hashed = service.replace(
        "namespace: default}",
        "namespace: default, annotations: {proxy-agent/lb-algorithm: maglev}}",
    );
    ensure!(service != hashed);
    world.after_programming(|| world.manifests.write(mirror::NAME, &hashed))?;
    let node = &world.cluster.nodes[1].namespace;
    are_left_alone(&world, &places(&world), node, &darken("eth0"))
}

#[test]
fn endpoints_whose_answers_are_lost_are_left_alone() -> Result<()> {
    let (world, _servers) = scene()?;
    let node = &world.cluster.nodes[1].namespace;
    let mute = "add table netdev dark\n\
                add chain netdev dark out { type filter hook egress device eth0 priority 0; policy drop; }\n";
    are_left_alone(&world, &places(&world), node, mute)
}

#[test]
fn an_endpoint_that_is_hard_to_reach_is_not_left_alone_for_long() -> Result<()> {
    let (world, _servers) = scene()?;
    let node = &world.cluster.nodes[1].namespace;
    node.nft(
        "add table netdev dark\n\
         add chain netdev dark in { type filter hook ingress device eth0 priority 0; }\n\
         add rule netdev dark in tcp flags syn numgen random mod 100 < 30 drop\n",
    )?;
    for (from, is_inside) in places(&world) {
        let outcomes = connect(&world, from, is_inside, 150)?;
        ensure!(sent_again(&outcomes) > 0, "{outcomes:?}");
        ensure!(outcomes.iter().any(|it| it.by == "pod-2-1"), "{outcomes:?}");
    }
    node.nft("delete table netdev dark\n")?;
    for (from, is_inside) in places(&world) {
        while metric(&world, SUSPECTS)? > 0 {
            connect(&world, from, is_inside, 20)?;
        }
        ensure!(sent_again(&connect(&world, from, is_inside, 60)?) == 0);
    }
    Ok(())
}

/// Its kernel answers: that the application does not is its client's business.
#[test]
fn a_server_that_is_stopped_is_no_suspect() -> Result<()> {
    let (world, servers) = scene()?;
    servers[2].signal(libc::SIGSTOP)?;
    for (from, is_inside) in places(&world) {
        let outcomes = attempt(&world, from, is_inside, 60, "connect")?;
        ensure!(sent_again(&outcomes) == 0, "{outcomes:?}");
        ensure!(
            outcomes.iter().all(|it| it.by == "connected"),
            "{outcomes:?}"
        );
    }
    ensure!(metric(&world, SUSPECTS)? == 0);
    servers[2].signal(libc::SIGCONT)
}

const REFUSED: &str = "proxy_agent_connections_refused_total";

const REJECT: &str = "add table inet dark\n\
    add chain inet dark in { type filter hook input priority 0; }\n\
    add rule inet dark in tcp dport 7777 reject with tcp reset\n";

#[test]
fn a_reset_is_an_answer() -> Result<()> {
    let (world, _servers) = scene()?;
    let pod = &world.cluster.pod(2, 1).namespace;
    let is_refused = |it: &Outcome| it.by.contains("ConnectionRefused");
    for (from, is_inside) in places(&world) {
        connect(&world, from, is_inside, 30)?;
        let before = metric(&world, REFUSED)?;
        pod.nft(REJECT)?;
        let outcomes = attempt(&world, from, is_inside, 60, "who")?;
        let refused = outcomes.iter().filter(|it| is_refused(it)).count();
        ensure!(refused > 0, "{outcomes:?}");
        // Those of sockets do not count by themselves.
        let counted = metric(&world, REFUSED)? - before;
        ensure!(counted == if is_inside { 0 } else { refused }, "{counted}");
        ensure!(sent_again(&outcomes) == 0, "{outcomes:?}");
        ensure!(metric(&world, SUSPECTS)? == 0, "it answers");
        pod.nft("delete table inet dark\n")?;

        let mark = world.agents[0].mark();
        pod.nft(&darken("eth0"))?;
        connect(&world, from, is_inside, 60)?;
        wait_for_both(&world, mark, "does not answer")?;
        pod.nft(REJECT)?;
        pod.nft("delete table netdev dark\n")?;
        while metric(&world, SUSPECTS)? > 0 {
            attempt(&world, from, is_inside, 20, "who")?;
        }
        let outcomes = attempt(&world, from, is_inside, 60, "who")?;
        ensure!(outcomes.iter().any(is_refused), "it is used: {outcomes:?}");
        pod.nft("delete table inet dark\n")?;
    }
    Ok(())
}

/// What it leaves unanswered says nothing of endpoints that others reach.
#[test]
fn a_client_that_is_cut_off_takes_no_endpoint_with_it() -> Result<()> {
    let (world, _servers) = scene()?;
    let [(cut_off, is_inside), _, (other, is_other_inside)] = places(&world);
    connect(&world, cut_off, is_inside, 30)?;
    cut_off.nft(&darken("eth0"))?;
    let outcomes = std::thread::scope(|scope| {
        let alone = scope.spawn(|| attempt(&world, cut_off, is_inside, 100, "connect"));
        let outcomes = connect(&world, other, is_other_inside, 300);
        ensure!(
            alone.join().is_ok_and(|it| it.is_err()),
            "nobody answers it"
        );
        outcomes
    })?;
    ensure!(sent_again(&outcomes) == 0, "{outcomes:?}");
    while metric(&world, SUSPECTS)? > 0 {
        connect(&world, other, is_other_inside, 20)?;
    }
    let outcomes = connect(&world, other, is_other_inside, 60)?;
    for pod in ["pod-1-1", "pod-1-2", "pod-2-1"] {
        ensure!(
            outcomes.iter().any(|it| it.by == pod),
            "{pod}: {outcomes:?}"
        );
    }
    Ok(())
}

#[test]
fn an_endpoint_that_goes_while_it_is_suspect_is_none_when_it_comes_back() -> Result<()> {
    let (world, _servers) = scene()?;
    let node = &world.cluster.nodes[1].namespace;
    let (from, is_inside) = places(&world)[0];
    connect(&world, from, is_inside, 30)?;
    let mark = world.agents[0].mark();
    node.nft(&darken("eth0"))?;
    connect(&world, from, is_inside, 60)?;
    wait_for_both(&world, mark, "does not answer")?;
    world.scale(mirror::NAME, &[(1, 1), (1, 2)])?;
    while metric(&world, SUSPECTS)? > 0 {
        std::thread::yield_now();
    }
    ensure!(sent_again(&connect(&world, from, is_inside, 60)?) == 0);
    node.nft("delete table netdev dark\n")?;
    world.scale(mirror::NAME, &[(1, 1), (1, 2), (2, 1)])?;
    let outcomes = connect(&world, from, is_inside, 60)?;
    ensure!(sent_again(&outcomes) == 0, "{outcomes:?}");
    ensure!(outcomes.iter().any(|it| it.by == "pod-2-1"), "{outcomes:?}");
    Ok(())
}
