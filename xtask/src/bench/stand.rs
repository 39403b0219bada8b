//! One agent and its API server, without Pods or packets: how it keeps its maps in step.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::{
    apiserver::{self, ApiServer},
    lab::{Agent, Cluster, Node, Options, PodNetwork, addresses},
    prometheus::Exposition,
};

use super::{
    kernel::AgentMaps,
    memory::Memory,
    objects::{self, Change, Objects},
};

/// Where the agent tells its metrics.
const METRICS: &str = "http://127.0.0.1:10249/metrics";
const FULL_SYNC: &str = "kubeproxy_sync_full_proxy_rules_duration_seconds";
/// How long the first sync may take.
const SYNC_PATIENCE: Duration = Duration::from_mins(5);
/// How long a change may take.
const CHANGE_PATIENCE: Duration = Duration::from_secs(30);
/// How often the kernel's map is looked at while a change is awaited: what is measured
/// may be too long by as much.
const LOOK: Duration = Duration::from_micros(50);
/// How long the agent is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);
/// Changes of the flood that are under way at the same time.
const WINDOW: u32 = 1000;
/// Changes that the server remembers: more than may be under way.
const HISTORY: usize = 4000;

/// What the agent is to serve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) services: u32,
    /// Endpoints of each Service.
    pub(super) endpoints: u32,
    pub(super) dual_stack: bool,
    /// Let the server send lists in pages, as one without streaming lists does.
    pub(super) paged: bool,
}

/// An agent that runs, and what it serves.
pub(super) struct Stand {
    pub(super) agent: Agent,
    pub(super) maps: AgentMaps,
    /// From the start of the process to its first program on a device.
    pub(super) first_attached: Duration,
    /// From the start of the process to its first full state in the maps.
    pub(super) first_sync: Duration,
    objects: Objects,
    server: ApiServer,
    cluster: Cluster,
}

impl Stand {
    /// Starts an API server with all objects, then the agent, and waits until the maps have
    /// them.
    pub(super) fn new(agent: &Path, size: Size) -> Result<Self> {
        let objects = Objects::new(size.services, size.endpoints, size.dual_stack)?;
        let cluster = Cluster::new(Options {
            network: PodNetwork::default(),
            pods_per_node: 0,
        })?;
        let server = cluster.client.run(|| {
            ApiServer::start(apiserver::Options {
                ip: addresses::client().v4.into(),
                history: Some(HISTORY),
                streaming_lists: !size.paged,
                ..apiserver::Options::default()
            })
        })??;
        let node = &cluster.nodes[0];
        server.apply(objects::node(&node.name, node.addresses.v4));
        for object in objects.all() {
            server.apply(object);
        }
        let sizes = map_sizes(size.services, size.endpoints);
        let sizes = sizes.each_ref().map(String::as_str);
        let started = Instant::now();
        let agent = Agent::start_at(agent, node, &server.url(), &sizes)?;
        let attached = thread::scope(|scope| {
            let waiting = scope.spawn(|| agent.wait_attached("eth0").map(|_| started.elapsed()));
            let synced = wait_for_services(&agent, SYNC_PATIENCE).map(|()| started.elapsed());
            waiting.join().map(|attached| (attached, synced))
        });
        let (attached, synced) = attached.unwrap_or_else(|it| std::panic::resume_unwind(it));
        let maps = AgentMaps::of(agent.id())?;
        Ok(Self {
            agent,
            maps,
            first_attached: attached?,
            first_sync: synced?,
            objects,
            server,
            cluster,
        })
    }

    /// The part of the first sync from the objects in the agent's memory to its maps, by its
    /// own metric.
    pub(super) fn first_programming(&self) -> Result<Duration> {
        let metrics = metrics(&self.cluster.nodes[0])?;
        let name = format!("{FULL_SYNC}_sum");
        let seconds = metrics.value(&name, &[("ip_family", "IPv4")]);
        let seconds = seconds.with_context(|| format!("{name}: not there"))?;
        Ok(Duration::from_secs_f64(seconds))
    }

    /// The agent's memory, after it was left alone for a while.
    pub(super) fn memory_at_rest(&self) -> Result<Memory> {
        thread::sleep(REST);
        Memory::of(self.agent.id())
    }

    /// Changes endpoints at a steady rate, and measures how long each takes from the call
    /// of the server to the kernel's map.
    pub(super) fn change_steadily(&mut self, rate: u32, changes: u32) -> Result<Vec<Duration>> {
        let interval = Duration::from_secs(1) / rate.max(1);
        let mut next = Instant::now();
        let mut took = Vec::new();
        for _ in 0..changes {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += interval;
            let (slice, change) = self.objects.change();
            let started = Instant::now();
            self.server.apply(slice);
            self.wait_for(&change)?;
            took.push(started.elapsed());
        }
        Ok(took)
    }

    /// Changes endpoints at a rate for a while, without waiting for any but the last one;
    /// how long it took.
    pub(super) fn change_at(&mut self, rate: u32, span: Duration) -> Result<Duration> {
        let began = Instant::now();
        let mut made = 0.0;
        let mut last = None;
        while began.elapsed() < span {
            while made < began.elapsed().as_secs_f64() * f64::from(rate) {
                let (slice, change) = self.objects.change();
                self.server.apply(slice);
                last = Some(change);
                made += 1.0;
            }
            thread::sleep(Duration::from_millis(1));
        }
        if let Some(last) = last {
            self.wait_for(&last)?;
        }
        Ok(began.elapsed())
    }

    /// Changes endpoints as fast as the agent takes it: a window of changes at a time.
    pub(super) fn flood(&mut self, churn: u32) -> Result<()> {
        let mut left = churn;
        while left > 0 {
            let window = left.min(WINDOW);
            let mut last = None;
            for _ in 0..window {
                let (slice, change) = self.objects.change();
                self.server.apply(slice);
                last = Some(change);
            }
            if let Some(last) = last {
                self.wait_for(&last)?;
            }
            left -= window;
        }
        Ok(())
    }

    /// Waits until packets to a Service can find its new endpoint.
    fn wait_for(&self, change: &Change) -> Result<()> {
        let deadline = Instant::now() + CHANGE_PATIENCE;
        while !self.maps.serve(change.frontend, change.endpoint)? {
            ensure!(
                Instant::now() < deadline,
                "{} is not served by {} after {CHANGE_PATIENCE:?}",
                change.frontend,
                change.endpoint
            );
            thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// What the agent of a node tells of itself.
pub(super) fn metrics(node: &Node) -> Result<Exposition> {
    let mut curl = node.namespace.command("curl");
    let output = curl
        .args(["--silent", "--fail", "--noproxy", "*", METRICS])
        .output()?;
    Exposition::parse(&String::from_utf8(output.stdout)?).context("metrics")
}

/// Waits for the first state with Services in it, which has all that there are.
pub(super) fn wait_for_services(agent: &Agent, patience: Duration) -> Result<()> {
    agent.wait_ports_programmed_within(patience)
}

/// The agent's defaults where they are enough, and what is needed where not.
pub(super) fn map_sizes(services: u32, endpoints: u32) -> [String; 6] {
    let frontends = services.max(32_768) * 2;
    let backends = (services * endpoints).max(131_072) * 2;
    [
        "--map-frontends".to_owned(),
        frontends.to_string(),
        "--map-backends".to_owned(),
        backends.to_string(),
        "--map-slots".to_owned(),
        (backends * 4).to_string(),
    ]
}
