//! The lab itself: that its network is what it says, and that it leaves nothing behind.
//!
//! No agent runs here, so no Service answers; what the end-to-end tests add is
//! the agent alone.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use proxy_tests::lab::{
    Cluster, Directory, Family, Load, Manifests, Namespace, Options, PodNetwork, Process,
    client::{self, Transport},
    namespace, server,
};

fn cluster(network: PodNetwork) -> Cluster {
    Cluster::new(Options {
        network,
        ..Options::default()
    })
    .expect("a lab (root, and the tools of `cargo xtask setup`)")
}

/// Every pod answers every pod, over both families, by TCP and UDP.
fn all_pods_reach_each_other(network: PodNetwork) -> Result<()> {
    let cluster = cluster(network);
    let _http = server::start_http(cluster.directory.path(), cluster.pods())?;
    let _dns = server::start_dns(cluster.pods())?;
    for from in [cluster.pod(1, 1), cluster.pod(2, 3)] {
        for to in cluster.pods() {
            for family in Family::BOTH {
                let address = to.addresses.of(family);
                let http = SocketAddr::new(address, server::HTTP_PORT);
                assert_eq!(client::http(&from.namespace, http)?, to.name);
                let dns = SocketAddr::new(address, server::DNS_PORT);
                let told = client::dns(&from.namespace, dns, Transport::Udp)?;
                assert_eq!(told, to.name);
            }
        }
    }
    let dns = SocketAddr::new(cluster.pod(2, 1).addresses.of(Family::V6), server::DNS_PORT);
    let told = client::dns(&cluster.pod(1, 1).namespace, dns, Transport::Tcp)?;
    assert_eq!(told, "pod-2-1");
    Ok(())
}

#[test]
fn bridged_pods_reach_each_other() -> Result<()> {
    all_pods_reach_each_other(PodNetwork::Bridge)
}

#[test]
fn routed_pods_reach_each_other() -> Result<()> {
    all_pods_reach_each_other(PodNetwork::Routed)
}

#[test]
fn the_client_reaches_nodes_but_not_pods() {
    let cluster = cluster(PodNetwork::Bridge);
    let _http = server::start_http(cluster.directory.path(), [cluster.pod(1, 1)]).unwrap();
    for family in Family::BOTH {
        let pod = cluster.pod(1, 1).addresses.of(family);
        let node = cluster.nodes[1].addresses.of(family);
        // Nothing listens at the node: to be refused means to have reached it.
        let refused = client::http(&cluster.client, SocketAddr::new(node, 80)).unwrap_err();
        assert!(refused.to_string().contains("onnect"), "{refused}");
        let asked = cluster
            .client
            .run(|| proxy_tests::lab::load::ask(SocketAddr::new(pod, server::HTTP_PORT)))
            .unwrap();
        let unreachable = format!("{:#}", asked.unwrap_err());
        assert!(unreachable.contains("unreachable"), "{unreachable}");
    }
}

#[test]
fn a_pod_that_comes_late_is_a_full_member() {
    let mut cluster = cluster(PodNetwork::Routed);
    let pod = cluster.nodes[1].add_pod().unwrap();
    assert_eq!(
        (pod.name.as_str(), pod.device.as_str()),
        ("pod-2-4", "veth4")
    );
    let _http = server::start_http(cluster.directory.path(), [cluster.pod(2, 4)]).unwrap();
    let address = cluster.pod(2, 4).addresses.of(Family::V6);
    let http = SocketAddr::new(address, server::HTTP_PORT);
    assert_eq!(
        client::http(&cluster.pod(1, 1).namespace, http).unwrap(),
        "pod-2-4"
    );
}

#[test]
fn dropping_a_cluster_leaves_nothing() {
    let started = Instant::now();
    let cluster = cluster(PodNetwork::Bridge);
    let took = started.elapsed();
    let (lab, directory) = (
        cluster.directory.name().to_owned(),
        cluster.directory.path().to_owned(),
    );
    let names = || {
        let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    assert!(names().contains(&format!("{lab}-node1")));
    assert!(directory.exists());
    drop(cluster);
    assert!(!names().contains(&lab));
    assert!(!directory.exists());
    println!("set-up took {took:?}");
    assert!(took < Duration::from_secs(5), "the set-up took {took:?}");
}

#[test]
fn what_a_killed_lab_left_is_swept() {
    let mut owner = Command::new("sleep").arg("60").spawn().unwrap();
    let lab = format!("px{}-0", owner.id());
    let left = Namespace::create(&lab, &["node1"]).unwrap();
    let mut sleep = left[0].command("sh");
    sleep.args(["-c", "echo inside; exec sleep 60"]);
    let mut inside = Process::spawn("sleep", sleep).unwrap();
    // One that is still on its way in would be missed by the sweep.
    inside
        .wait_for_line(Duration::from_secs(5), |line| line == "inside")
        .expect("it has entered");
    owner.kill().unwrap();
    owner.wait().unwrap();
    namespace::sweep();
    inside
        .wait(Duration::from_secs(5))
        .expect("its process was ended");
    // A lab beside us may have begun to sweep first, and be about to finish.
    let patience = Instant::now() + Duration::from_secs(5);
    while left[0].path().exists() {
        assert!(Instant::now() < patience, "{lab} is still there");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_living_are_not_swept() {
    let directory = Directory::create().unwrap();
    let kept = Namespace::create(directory.name(), &["kept"]).unwrap();
    namespace::sweep();
    assert!(kept[0].path().exists());
}

#[test]
fn a_load_counts_each_phase_by_backend() {
    let cluster = cluster(PodNetwork::Bridge);
    let pod = cluster.pod(2, 1);
    let _http = server::start_http(cluster.directory.path(), [pod]).unwrap();
    let address = SocketAddr::new(pod.addresses.of(Family::V4), server::HTTP_PORT);
    let load = Load::start(&cluster.pod(1, 1).namespace, address, 2).unwrap();
    load.wait_for_requests(50, Duration::from_secs(10)).unwrap();
    assert_eq!(load.next_phase(), 1);
    load.wait_for_requests(50, Duration::from_secs(10)).unwrap();
    for phase in load.stop().unwrap() {
        assert_eq!(phase.failures, [""; 0]);
        assert!(phase.answers["pod-2-1"] >= 50);
        assert_eq!(phase.answers.len(), 1);
    }
}

#[test]
fn endpoints_are_rewritten_in_both_families() {
    let cluster = cluster(PodNetwork::Bridge);
    let manifests = Manifests::copy_examples(cluster.directory.path()).unwrap();
    assert!(
        manifests
            .path()
            .starts_with(Path::new(cluster.directory.path()))
    );
    let before = manifests.read("web-endpoints").unwrap();
    let pods = [cluster.pod(1, 1), cluster.pod(2, 1)];
    manifests.set_endpoints("web", &pods).unwrap();
    assert_eq!(
        manifests.read("web-endpoints").unwrap(),
        before,
        "the examples' own pods"
    );
    manifests
        .set_endpoints("web", &[cluster.pod(2, 3)])
        .unwrap();
    let after = manifests.read("web-endpoints").unwrap();
    assert!(after.contains("10.244.2.12") && after.contains("fd00:10:244:2::12"));
    assert!(!after.contains("10.244.1.10"));
}
