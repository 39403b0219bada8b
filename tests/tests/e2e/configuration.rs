//! The configuration file, changed while the agents run.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_tests::lab::{
    Cluster, ConfigMap, Family, Manifests, Options, Process, addresses, client,
};
use serde_json::Value;

use crate::telling::get;
use crate::world::{WEB_NODE_PORT, World, agent_program, cluster_ip};

const PATIENCE: Duration = Duration::from_secs(20);

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const OWN: &str = "---\napiVersion: proxy-agent/v1alpha1\nkind: ProxyAgentConfiguration\n";

/// A world whose agents have a mounted configuration file.
struct Configured {
    world: World,
    file: ConfigMap,
}

impl Configured {
    fn new(text: &str) -> Result<Self> {
        Self::with_file(&format!("{HEADER}{text}"))
    }

    fn with_file(text: &str) -> Result<Self> {
        let cluster = Cluster::new(Options::default())?;
        let file = ConfigMap::mount(cluster.directory.path(), text)?;
        let path = file.file().to_string_lossy().into_owned();
        let world = World::on(cluster, &["--config", &path])?;
        Ok(Self { world, file })
    }

    /// Gives the file another content.
    fn set(&self, text: &str) -> Result<()> {
        self.file.set(&format!("{HEADER}{text}"))
    }

    /// The same, and returns when both nodes have programmed what follows.
    fn set_programmed(&self, text: &str) -> Result<()> {
        self.world.after_setting(|| self.set(text))
    }

    /// Waits for an event of node 1 after a mark whose message has this in it.
    fn event(&self, mark: usize, part: &str) -> Result<Value> {
        self.world.agents[0].wait_for(mark, |event| message(event).contains(part))
    }

    /// Whom the backend on node 1 sees when the client outside asks node 1.
    fn peer_of_local_backend(&self, family: Family) -> Result<IpAddr> {
        let world = &self.world;
        world.peer_seen_by("pod-1-1", || {
            let frontend = world.node_port(1, family, WEB_NODE_PORT);
            client::http(&world.cluster.client, frontend).map(drop)
        })
    }

    /// Whether the client outside gets an answer from the NodePort at `address`.
    fn answers(&self, address: IpAddr) -> bool {
        let at = SocketAddr::new(address, WEB_NODE_PORT);
        client::http(&self.world.cluster.client, at).is_ok()
    }
}

fn message(event: &Value) -> &str {
    event["fields"]["message"].as_str().unwrap_or_default()
}

#[test]
fn the_configuration_of_a_cluster_made_by_kubeadm_works_as_it_is() -> Result<()> {
    let text = include_str!("../../../proxy-agent/tests/config/kubeadm.yaml");
    let it = Configured::with_file(text)?;
    for family in Family::BOTH {
        let frontend = SocketAddr::new(cluster_ip("web", family), 80);
        client::http(&it.world.cluster.pod(1, 3).namespace, frontend)?;
    }
    let log = it.world.agents[0].log();
    let is_bad = |line: &&String| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    assert_eq!(log.iter().find(is_bad), None);
    let says = it.event(0, "configuration")?;
    assert_eq!(says["fields"]["kind"], "KubeProxyConfiguration");
    let file = it.file.file().display().to_string();
    assert_eq!(says["fields"]["file"], file);
    Ok(())
}

#[test]
fn masquerade_all_is_changed_at_run_time() -> Result<()> {
    let it = Configured::new("")?;
    it.world.scale("web", &[(1, 1)])?;
    for (text, expected) in [
        ("", addresses::client()),
        // What a Pod's device has on the node's side.
        ("iptables: {masqueradeAll: true}", addresses::gateway(1)),
        ("mode: nftables", addresses::client()),
    ] {
        if !text.is_empty() {
            it.set_programmed(text)?;
        }
        for family in Family::BOTH {
            let seen = it.peer_of_local_backend(family)?;
            assert_eq!(seen, expected.of(family), "{text:?} over {family}");
        }
    }
    Ok(())
}

#[test]
fn node_ports_answer_where_the_configuration_says_and_on_new_addresses_at_once() -> Result<()> {
    let it = Configured::new("mode: nftables")?;
    let node = &it.world.cluster.nodes[0];
    let add = |address: &str| node.namespace.ip(&[format!("addr add {address} dev eth0")]);
    let primary: IpAddr = addresses::node(1).of(Family::V4);
    let [second, third, fourth]: [IpAddr; 3] =
        ["172.31.0.201", "172.31.0.202", "fd00:31::209"].map(|text| text.parse().unwrap());
    add("172.31.0.201/24")?;
    assert!(it.answers(primary));
    assert!(!it.answers(second));

    it.set_programmed("nodePortAddresses: [172.31.0.200/29]")?;
    assert!(it.answers(second));
    assert!(!it.answers(primary));
    // The list does not speak of IPv6: all addresses of that version answer.
    assert!(it.answers(addresses::node(1).of(Family::V6)));

    for (address, with_length) in [(third, "172.31.0.202/24"), (fourth, "fd00:31::209/64")] {
        let mark = it.world.agents[0].mark();
        add(with_length)?;
        it.world.agents[0].wait_programmed_after(mark)?;
        let at = SocketAddr::new(address, WEB_NODE_PORT);
        client::http(&it.world.cluster.client, at)?;
    }
    let mark = it.world.agents[0].mark();
    node.namespace
        .ip(&["addr del 172.31.0.202/24 dev eth0".to_owned()])?;
    it.world.agents[0].wait_programmed_after(mark)?;
    assert!(!it.answers(third));
    Ok(())
}

/// `ip route add local`: no device carries the address.
#[test]
fn node_ports_answer_where_a_route_makes_an_address_local() -> Result<()> {
    let it = Configured::new("nodePortAddresses: ['0.0.0.0/0', '::/0']")?;
    let cluster = &it.world.cluster;
    let (node, client) = (&cluster.nodes[0], &cluster.client);
    for (family, address) in [(Family::V4, "203.0.113.9"), (Family::V6, "2001:db8:9::9")] {
        let via = node.addresses.of(family);
        client.ip(&[format!("route add {address} via {via}")])?;
        let address: IpAddr = address.parse()?;
        for (verb, is_local) in [("add", true), ("del", false)] {
            let mark = it.world.agents[0].mark();
            node.namespace
                .ip(&[format!("route {verb} local {address} dev eth0")])?;
            it.world.agents[0].wait_programmed_after(mark)?;
            assert_eq!(it.answers(address), is_local, "{address}: {verb}");
        }
    }
    Ok(())
}

#[test]
fn the_configured_address_is_what_backends_on_other_nodes_see() -> Result<()> {
    let it = Configured::new("")?;
    let second: IpAddr = "172.31.0.201".parse()?;
    let node = &it.world.cluster.nodes[0].namespace;
    node.ip(&["addr add 172.31.0.201/24 dev eth0".to_owned()])?;
    it.world.scale("web", &[(2, 1)])?;
    // node2 does not have it, and is not asked.
    it.set_programmed("bindAddress: 172.31.0.201")?;
    for family in Family::BOTH {
        let address = match family {
            Family::V4 => second,
            Family::V6 => addresses::node(1).of(family),
        };
        let seen = it.world.peer_seen_by("pod-2-1", || {
            let frontend = SocketAddr::new(address, WEB_NODE_PORT);
            client::http(&it.world.cluster.client, frontend).map(drop)
        })?;
        assert_eq!(seen, address);
    }
    Ok(())
}

#[test]
fn external_ips_are_allowed_and_taken_away_at_run_time() -> Result<()> {
    let it = Configured::new("")?;
    let external: SocketAddr = "10.96.7.7:80".parse()?;
    let service = it.world.manifests.read("web")?;
    let with_external = service.replacen("spec:\n", "spec:\n  externalIPs: [10.96.7.7]\n", 1);
    assert_ne!(service, with_external);
    let mark = it.world.agents[0].mark();
    it.world.manifests.write("web", &with_external)?;
    it.event(mark, "the external IP 10.96.7.7 is in no range")?;
    let from = &it.world.cluster.client;
    assert!(client::http(from, external).is_err());

    it.set_programmed(&format!("{OWN}externalIPs: [10.96.7.0/24]"))?;
    client::http(from, external)?;
    it.set_programmed("")?;
    assert!(client::http(from, external).is_err());
    Ok(())
}

#[test]
fn a_broken_configuration_file_is_named_and_changes_nothing() -> Result<()> {
    let it = Configured::new("iptables: {masqueradeAll: true}")?;
    it.world.scale("web", &[(1, 1)])?;
    let mark = it.world.agents[0].mark();
    it.set("iptables:\n  masqueradeAl: false\n")?;
    let event = it.event(mark, "keeping the current settings")?;
    assert_eq!(event["level"], "WARN");
    let place = format!("{}:4:3: iptables.masqueradeAl", it.file.file().display());
    assert!(message(&event).contains(&place), "{event}");
    assert!(
        message(&event).contains("is `masqueradeAll` meant?"),
        "{event}"
    );
    let seen = it.peer_of_local_backend(Family::V4)?;
    assert_eq!(seen, addresses::gateway(1).of(Family::V4));
    // Mended, it counts.
    it.set_programmed("iptables: {masqueradeAll: false}")?;
    let seen = it.peer_of_local_backend(Family::V4)?;
    assert_eq!(seen, addresses::client().of(Family::V4));
    Ok(())
}

#[test]
fn what_needs_a_restart_and_what_has_no_effect_is_named_once() -> Result<()> {
    let it = Configured::new("clusterCIDR: 10.244.0.0/16")?;
    it.event(0, "known by the device")?;
    let mark = it.world.agents[0].mark();
    it.set("clusterCIDR: 10.244.0.0/16\nmetricsBindAddress: 127.0.0.1:10250\n")?;
    let event = it.event(mark, "needs a restart")?;
    assert_eq!(event["fields"]["setting"], "metricsBindAddress");
    // Back as it was at the start, nothing needs a restart.
    it.set("conntrack: {maxPerCore: 1}\nlogging: {verbosity: 4}\n")?;
    it.event(mark, "conntrack is left as it is")?;
    it.event(mark, "changed in the configuration file")?;
    let log = it.world.agents[0].log();
    for (part, times) in [("known by the device", 1), ("needs a restart", 1)] {
        let found = log.iter().filter(|line| line.contains(part)).count();
        assert_eq!(found, times, "{part}");
    }
    Ok(())
}

#[test]
fn the_log_level_and_the_oom_score_are_changed_at_run_time() -> Result<()> {
    let cluster = Cluster::new(Options::default())?;
    let directory = cluster.directory.path();
    let manifests = Manifests::copy_examples(directory)?;
    let file = ConfigMap::mount(directory, &format!("{HEADER}oomScoreAdj: 500"))?;
    // The lab's own agents have a level that is given, which no file changes.
    let mut command = cluster.nodes[0].namespace.command(agent_program());
    command.args(["run", "--node-name", "node1", "--bpffs", "none"]);
    command.args(["--socket-path", "off", "--source", "files", "--manifests"]);
    command.arg(manifests.path()).arg("--config");
    command.arg(file.file());
    let agent = Process::spawn("proxy-agent", command)?;
    agent.wait_for_line(PATIENCE, |line| line.contains("rounds of programming"))?;
    let score = || -> Result<i32> {
        let file = format!("/proc/{}/oom_score_adj", agent.id());
        Ok(std::fs::read_to_string(file)?.trim().parse()?)
    };
    let is_debug = |line: &str| line.contains("DEBUG");
    assert_eq!(score()?, 500);
    assert!(!agent.lines().iter().any(|line| is_debug(line)));
    file.set(&format!(
        "{HEADER}oomScoreAdj: 600\nlogging: {{verbosity: 4}}"
    ))?;
    agent.wait_for_line(PATIENCE, |line| {
        line.contains("changed in the configuration")
    })?;
    // A manifest of a kind that nobody serves is not worth more than a debug line.
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    manifests.write("other", text)?;
    agent.wait_for_line(PATIENCE, is_debug)?;
    assert_eq!(score()?, 600);
    Ok(())
}

#[test]
fn rounds_of_changes_are_min_sync_period_apart() -> Result<()> {
    let it = Configured::new("iptables: {minSyncPeriod: 2s}")?;
    it.world.scale("web", &[(1, 1)])?;
    let first = Instant::now();
    it.world.scale("web", &[(1, 2)])?;
    let apart = first.elapsed();
    // What the test itself needs to notice the first round counts as well.
    assert!(apart > Duration::from_secs(1), "{apart:?}");
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let from = &it.world.cluster.pod(1, 3).namespace;
    assert_eq!(client::http(from, frontend)?, "pod-1-2");
    Ok(())
}

#[test]
fn configz_shows_the_settings_in_force() -> Result<()> {
    let it = Configured::new("mode: ipvs\nmetricsBindAddress: 127.0.0.1:10349\n")?;
    let node = &it.world.cluster.nodes[0].namespace;
    let shown = || -> Result<Value> {
        let (code, body) = get(node, "http://127.0.0.1:10349/configz")?;
        assert_eq!(code, 200);
        Ok(serde_json::from_str(&body)?)
    };
    let at_start = shown()?;
    let kube_proxy = &at_start["kubeproxy.config.k8s.io"];
    assert_eq!(kube_proxy["kind"], "KubeProxyConfiguration");
    assert_eq!(kube_proxy["hostnameOverride"], "node1");
    assert_eq!(kube_proxy["metricsBindAddress"], "127.0.0.1:10349");
    assert_eq!(kube_proxy["nftables"]["masqueradeAll"], false);
    // One of these takes effect at once, and one after a restart.
    it.set_programmed("iptables: {masqueradeAll: true}\nmetricsBindAddress: 127.0.0.1:10449\n")?;
    let mut expected = at_start;
    expected["kubeproxy.config.k8s.io"]["nftables"]["masqueradeAll"] = true.into();
    assert_eq!(shown()?, expected);
    Ok(())
}

#[test]
fn health_checks_answer_where_node_ports_do() -> Result<()> {
    let it = Configured::new("mode: nftables")?;
    let pod = &it.world.cluster.pod(2, 1).namespace;
    // `edge` has an endpoint on node 2, and the gateway's address is node 2's too.
    let url = format!("http://{}:30082/", addresses::gateway(2).v4);
    assert_eq!(get(pod, &url)?.0, 0, "no answer");
    it.set_programmed("nodePortAddresses: [primary, 10.244.0.0/16]\n")?;
    let deadline = Instant::now() + PATIENCE;
    while get(pod, &url)?.0 != 200 {
        ensure!(Instant::now() < deadline, "it never answered");
    }
    it.set_programmed("nodePortAddresses: [primary]\n")?;
    while get(pod, &url)?.0 != 0 {
        ensure!(Instant::now() < deadline, "it answers on");
    }
    // Some balancers ask at their own address, which a route makes the node's.
    let (node, outside) = (&it.world.cluster.nodes[1], &it.world.cluster.client);
    let via = node.addresses.of(Family::V4);
    outside.ip(&[format!("route replace 192.0.2.20 via {via}")])?;
    let balancer = "http://192.0.2.20:30082/";
    assert_eq!(get(outside, balancer)?.0, 0, "no answer");
    node.namespace
        .ip(&["route add local 192.0.2.20 dev eth0".to_owned()])?;
    while get(outside, balancer)?.0 != 200 {
        ensure!(
            Instant::now() < deadline,
            "it does not answer at the balancer's address"
        );
    }
    // All of them, as kube-proxy has it in this mode: one listener, also for link-local ones.
    it.set_programmed("mode: iptables\n")?;
    while get(pod, &url)?.0 != 200 || get(outside, balancer)?.0 != 200 {
        ensure!(
            Instant::now() < deadline,
            "it does not answer on all addresses"
        );
    }
    let log = it.world.agents[1].log();
    assert!(!log.iter().any(|line| line.contains("cannot answer")));
    Ok(())
}
