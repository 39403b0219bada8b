//! What an agent leaves behind, and how another one goes on from it.

mod load;
mod netfilter;
mod pins;
mod succession;
mod traffic;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proxy_ebpf::layout::VERSION;
use proxy_tests::lab::client::Transport;
use proxy_tests::lab::mirror::{self, Conversation};
use proxy_tests::lab::{Agent, Bpffs, Family, PodNetwork, Process, client};
use serde_json::Value;

use crate::hosts::{be_strict, is_answered};
use crate::world::{WEB_NODE_PORT, World, agent_program, cluster_ip};

const PATIENCE: Duration = Duration::from_secs(20);

/// A world whose first node has a BPF file system, and an agent that uses it.
pub(crate) struct Lasting {
    agent: Option<Agent>,
    /// What the next agent is.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Behind the agent: it ends first.
    pub(crate) bpffs: Bpffs,
    pub(crate) world: Arc<World>,
}

/// How an agent ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Stopped,
    Killed,
}

impl Lasting {
    pub(crate) fn new(arguments: &[&str]) -> Result<Self> {
        let mut lasting = Self::without_agent()?;
        lasting.arguments = arguments.iter().map(ToString::to_string).collect();
        lasting.start()?;
        Ok(lasting)
    }

    /// The same, with a configuration file.
    fn configured(text: &str) -> Result<Self> {
        let mut lasting = Self::without_agent()?;
        let file = lasting.world.cluster.directory.path().join("config.yaml");
        std::fs::write(&file, text)?;
        lasting.arguments = vec!["--config".to_owned(), file.display().to_string()];
        lasting.start()?;
        Ok(lasting)
    }

    pub(crate) fn without_agent() -> Result<Self> {
        let world = World::without_agent_on_node_1(PodNetwork::Bridge)?;
        Ok(Self {
            agent: None,
            program: agent_program(),
            arguments: Vec::new(),
            bpffs: Bpffs::new()?,
            world: Arc::new(world),
        })
    }

    /// Starts the agent; returns when it has taken over.
    pub(crate) fn start(&mut self) -> Result<()> {
        let agent = self.spawn()?;
        agent.wait_programmed()?;
        for device in ["eth0", "veth1", "veth2", "veth3"] {
            agent.wait_attached(device)?;
        }
        self.agent = Some(agent);
        Ok(())
    }

    fn spawn(&self) -> Result<Agent> {
        let node = &self.world.cluster.nodes[0];
        let manifests = self.world.manifests.path();
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        Agent::start_pinned(&self.program, node, &self.bpffs, manifests, &arguments)
    }

    /// Starts an agent that takes over from netfilter.
    pub(crate) fn take_over(&mut self) -> Result<()> {
        self.start()?;
        let is_over = |event: &Value| message(event) == "connections of netfilter taken over";
        self.agent().wait_for(0, is_over)?;
        Ok(())
    }

    pub(crate) fn end(&mut self, end: End) -> Result<()> {
        let agent = self.agent.take().context("an agent runs")?;
        match end {
            End::Stopped => {
                let status = agent.stop()?;
                ensure!(status.success(), "{status}");
            }
            End::Killed => drop(agent),
        }
        Ok(())
    }

    /// What bpftool says on node 1.
    pub(crate) fn bpftool(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let node = &self.world.cluster.nodes[0].namespace;
        let mut bpftool = node.command_with(Some(&self.bpffs), "bpftool");
        let output = bpftool.args(arguments).output().context("bpftool")?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(output.stdout)
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("an agent runs")
    }

    /// Adds the mirror; the agents of both nodes know it then.
    pub(crate) fn add_mirror(&self) -> Result<()> {
        let mark = self.agent().mark();
        let add = || mirror::add(&self.world.manifests);
        self.world.after_programming(add)?;
        self.agent().wait_ports_programmed_after(mark)?;
        Ok(())
    }

    /// Scales a Service; the agents of both nodes know it then.
    pub(crate) fn scale(&self, service: &str, pods: &[(usize, usize)]) -> Result<()> {
        let mark = self.agent().mark();
        self.world.scale(service, pods)?;
        self.agent().wait_ports_programmed_after(mark)?;
        Ok(())
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.agent.iter().for_each(crate::world::print_log);
    }
}

/// Conversations of all kinds that node 1 translates: by DNAT, and by DNAT and SNAT.
pub(crate) fn conversations(world: &World) -> Result<Vec<Conversation>> {
    let mut open = Vec::new();
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            let inside = &world.cluster.pod(1, 3).namespace;
            let frontend = mirror::cluster_ip(family);
            open.push(inside.run(|| Conversation::open(frontend, transport))??);
            let node_port = world.node_port(1, family, mirror::NODE_PORT);
            let outside = &world.cluster.client;
            open.push(outside.run(|| Conversation::open(node_port, transport))??);
        }
    }
    Ok(open)
}

pub(crate) fn ask_all(open: &mut [Conversation], pod: &str) -> Result<()> {
    for (number, conversation) in open.iter_mut().enumerate() {
        let answer = conversation.ask();
        let answer = answer.with_context(|| format!("conversation {number}"))?;
        ensure!(answer.pod == pod, "conversation {number}: {answer:?}");
    }
    Ok(())
}

#[test]
fn what_changed_while_no_agent_ran_is_followed_by_the_next() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &[(2, 1)])?;
    let _servers = mirror::start([it.world.cluster.pod(2, 1), it.world.cluster.pod(2, 2)])?;
    let inside = &it.world.cluster.pod(1, 3).namespace;
    let udp = || Conversation::open(mirror::cluster_ip(Family::V4), Transport::Udp);
    let mut udp = inside.run(udp)??;
    assert_eq!(udp.ask()?.pod, "pod-2-1");
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    client::http(inside, web)?;

    it.end(End::Killed)?;
    // An endpoint moves, and a Service goes.
    it.world.scale(mirror::NAME, &[(2, 2)])?;
    it.world.manifests.remove("web")?;
    assert_eq!(udp.ask()?.pod, "pod-2-1", "nobody has told the data path");
    it.start()?;
    assert_eq!(udp.ask()?.pod, "pod-2-2");
    let inside = &it.world.cluster.pod(1, 3).namespace;
    client::http(inside, web).expect_err("the Service is gone");
    Ok(())
}

/// As many networks have it for what leaves to other addresses than Pods'.
const MASQUERADE: &str = "\
add table inet cni
add chain inet cni post { type nat hook postrouting priority srcnat; }
add rule inet cni post oifname eth0 masquerade
";

#[test]
fn a_pod_that_comes_while_no_agent_runs_reaches_services() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    be_strict(&it.world.cluster)?;
    it.scale("dns", &[(2, 1)])?;
    it.end(End::Killed)?;
    let mut names = Vec::new();
    for rules in ["", MASQUERADE] {
        let world = Arc::get_mut(&mut it.world).context("the only one")?;
        let node = &mut world.cluster.nodes[0];
        node.namespace.nft(rules)?;
        let pod = node.add_pod()?;
        is_answered(&pod.namespace, "pod-2-1").with_context(|| format!("with {rules:?}"))?;
        names.push(pod.device.clone());
    }
    it.start()?;
    for (pod, device) in it.world.cluster.nodes[0].pods[3..].iter().zip(names) {
        it.agent().wait_attached(&device)?;
        is_answered(&pod.namespace, "pod-2-1")?;
    }
    Ok(())
}

#[test]
fn an_agent_without_changes_writes_no_service_anew() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.end(End::Killed)?;
    it.start()?;
    let first = it.agent().wait_programmed()?;
    // The settings of both families, and the source ports.
    assert_eq!(first["fields"]["writes"], 3, "{first}");
    Ok(())
}

#[test]
fn other_map_sizes_are_taken_up_by_a_restart_with_all_connections() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &[(2, 1), (2, 2), (1, 1)])?;
    let pods = [(2, 1), (2, 2), (1, 1)];
    let _servers = mirror::start(pods.map(|(node, pod)| it.world.cluster.pod(node, pod)))?;
    let mut open = conversations(&it.world)?;
    let asked = open.iter_mut().map(Conversation::ask);
    let before = asked.collect::<Result<Vec<_>>>()?;

    it.arguments = ["--map-flows", "65536", "--map-backends", "1024"]
        .map(str::to_owned)
        .to_vec();
    it.end(End::Stopped)?;
    it.start()?;
    let asked = open.iter_mut().map(Conversation::ask);
    assert_eq!(asked.collect::<Result<Vec<_>>>()?, before);
    let node_port = it.world.node_port(1, Family::V4, WEB_NODE_PORT);
    client::http(&it.world.cluster.client, node_port)?;
    assert_eq!(
        it.bpffs.list("proxy-agent")?.len(),
        2,
        "one folder of maps, one of links"
    );

    // Too small for what is there: the agent starts anew, and says so.
    it.arguments = ["--map-slots", "16"].map(str::to_owned).to_vec();
    it.end(End::Stopped)?;
    it.start()?;
    it.agent().wait_for(0, |event| {
        message(event).contains("cannot use the pinned maps of the previous agent")
    })?;
    Ok(())
}

/// An agent of an older version has maps of the same layout, and no filter or names.
#[test]
fn maps_without_a_filter_or_names_are_taken_up_by_a_restart_with_all_connections() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.add_mirror()?;
    let pods = [(2, 1), (1, 1)];
    it.scale(mirror::NAME, &pods)?;
    let _servers = mirror::start(pods.map(|(node, pod)| it.world.cluster.pod(node, pod)))?;
    let mut open = conversations(&it.world)?;
    let asked = open.iter_mut().map(Conversation::ask);
    let before = asked.collect::<Result<Vec<_>>>()?;

    it.end(End::Stopped)?;
    let maps = format!("proxy-agent/maps-{VERSION}");
    for map in ["FILTER", "SERVICE_NAMES"] {
        std::fs::remove_file(it.bpffs.path().join(&maps).join(map))?;
    }
    it.start()?;
    let asked = open.iter_mut().map(Conversation::ask);
    assert_eq!(asked.collect::<Result<Vec<_>>>()?, before);
    let pinned = it.bpffs.list(&maps)?;
    assert!(
        ["FILTER", "SERVICE_NAMES"]
            .iter()
            .all(|map| pinned.contains(&(*map).to_owned()))
    );
    let names = format!("/sys/fs/bpf/{maps}/SERVICE_NAMES");
    let names: Value =
        serde_json::from_slice(&it.bpftool(&["-j", "map", "dump", "pinned", &names])?)?;
    assert!(names.as_array().is_some_and(|it| !it.is_empty()), "{names}");
    Ok(())
}

#[test]
fn a_second_agent_waits_until_the_first_has_ended() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    let second = it.spawn()?;
    second.wait_for(0, |event| message(event).contains("another agent runs"))?;
    it.end(End::Stopped)?;
    second.wait_programmed()?;
    second.wait_attached("eth0")?;
    Ok(())
}

#[test]
fn cleanup_removes_what_is_pinned() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.end(End::Killed)?;
    let node_port = it.world.node_port(1, Family::V4, WEB_NODE_PORT);
    client::http(&it.world.cluster.client, node_port)?;
    let pinned = it.bpffs.list("proxy-agent/links")?;
    assert_eq!(
        pinned.len(),
        8,
        "both directions of four devices: {pinned:?}"
    );

    let node = &it.world.cluster.nodes[0];
    // As in the manifests.
    let mut command = node.namespace.command_with(Some(&it.bpffs), "setpriv");
    command.arg(CAPABILITIES).arg(agent_program());
    command.args(["run", "--cleanup"]);
    let mut cleanup = Process::spawn("cleanup", command)?;
    let status = cleanup.wait(PATIENCE)?;
    assert!(status.success(), "{}", cleanup.lines().join("\n"));
    let left = it.bpffs.list(".")?;
    assert!(!left.contains(&"proxy-agent".to_owned()), "{left:?}");
    let outside = &it.world.cluster.client;
    let refused = outside.run(|| TcpStream::connect_timeout(&node_port, PATIENCE))?;
    let refused = refused.map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    Ok(())
}

#[test]
fn what_somebody_detaches_is_attached_again() -> Result<()> {
    let it = Lasting::new(&[])?;
    let node_port = it.world.node_port(1, Family::V4, WEB_NODE_PORT);
    let mark = it.agent().mark();
    let node = &it.world.cluster.nodes[0].namespace;
    let output = node
        .command("ip")
        .args(["-j", "link", "show", "eth0"])
        .output()?;
    let shown: Value = serde_json::from_slice(&output.stdout)?;
    let uplink = &shown[0]["ifindex"];
    let pin = format!("/sys/fs/bpf/proxy-agent/links/{uplink}-ingress");
    let shown: Value =
        serde_json::from_slice(&it.bpftool(&["-j", "link", "show", "pinned", &pin])?)?;
    it.bpftool(&["link", "detach", "id", &shown["id"].to_string()])?;
    client::http(&it.world.cluster.client, node_port).expect_err("nobody translates");

    it.agent().wait_for(mark, |event| {
        message(event).contains("was detached by someone else")
            && event["fields"]["device"] == "eth0"
    })?;
    client::http(&it.world.cluster.client, node_port)?;
    Ok(())
}

#[test]
fn what_somebody_else_writes_to_the_maps_is_mended() -> Result<()> {
    let it = Lasting::configured(concat!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n",
        "kind: KubeProxyConfiguration\n---\n",
        "apiVersion: proxy-agent/v1alpha1\n",
        "kind: ProxyAgentConfiguration\nauditPeriod: 1s\n",
    ))?;
    let folders = it.bpffs.list("proxy-agent")?;
    let maps = folders.iter().find(|it| it.starts_with("maps-"));
    let maps = maps.context("a folder of maps")?;
    let map = format!("/sys/fs/bpf/proxy-agent/{maps}/FRONTENDS_V4");
    let frontend = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    let inside = &it.world.cluster.pod(1, 3).namespace;
    client::http(inside, frontend)?;

    let mark = it.agent().mark();
    let IpAddr::V4(address) = frontend.ip() else {
        unreachable!("of IPv4");
    };
    // Address and port as they are in a packet, TCP, and zero.
    let key = [&address.octets()[..], &[0, 80, 6, 0]].concat();
    let key: Vec<String> = key.iter().map(ToString::to_string).collect();
    let mut arguments = vec!["map", "delete", "pinned", &map, "key"];
    arguments.extend(key.iter().map(String::as_str));
    it.bpftool(&arguments)?;
    it.agent()
        .wait_for(mark, |event| message(event).contains("were repaired"))?;
    client::http(inside, frontend)?;
    Ok(())
}

/// What the DaemonSet gives the agent, and nothing else.
const CAPABILITIES: &str = "--bounding-set=-all,+bpf,+net_admin,+perfmon";

#[test]
fn three_capabilities_are_enough_to_start_and_to_take_over() -> Result<()> {
    let it = Lasting::without_agent()?;
    let node = &it.world.cluster.nodes[0].namespace;
    for (start, mode) in [
        ("one that may not pin", "ro"),
        ("the first", "rw"),
        ("one that takes over", "rw"),
    ] {
        let mut command = node.command_with(Some(&it.bpffs), "sh");
        let script = format!("mount -o remount,{mode} /sys/fs/bpf && exec \"$@\"");
        command.args(["-c", &script, "sh", "setpriv", CAPABILITIES]);
        command.arg(agent_program());
        command.args(["run", "--node-name", "node1", "--log-format", "json"]);
        command.args(["--socket-path", "off", "--source", "files", "--manifests"]);
        command.arg(it.world.manifests.path());
        let agent = Process::spawn(start, command)?;
        agent.wait_for_line(PATIENCE, |line| {
            line.contains("\"attached\"") && line.contains("veth3")
        })?;
        let node_port = it.world.node_port(1, Family::V6, WEB_NODE_PORT);
        client::http(&it.world.cluster.client, node_port)?;
        let errors: Vec<_> = agent.lines();
        let errors = errors.iter().filter(|line| line.contains("\"ERROR\""));
        assert_eq!(errors.collect::<Vec<_>>(), Vec::<&String>::new(), "{start}");
        let lines = agent.lines();
        let says_so = lines.iter().any(|line| line.contains("nothing is pinned"));
        assert_eq!(says_so, mode == "ro", "{start}");
        let status = agent.terminate(PATIENCE)?;
        ensure!(status.success(), "{start}: {status}");
    }
    Ok(())
}

fn message(event: &Value) -> &str {
    event["fields"]["message"].as_str().unwrap_or_default()
}
