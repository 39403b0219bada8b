//! The measurement: first sync, steady changes, a flood of changes.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use proxy_tests::{
    apiserver::{self, ApiServer},
    lab::{Agent, Cluster, Options, PodNetwork, addresses},
};

use super::{
    ScaleArgs,
    kernel::AgentMaps,
    memory::Memory,
    objects::{self, Change, Objects},
    percentiles::Percentiles,
};
use crate::{interrupt, terminal};

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

/// What was found.
pub(super) struct Results {
    pub(super) services: u32,
    pub(super) endpoints: u32,
    pub(super) dual_stack: bool,
    /// From the start of the process to its first full state in the maps.
    pub(super) first_sync: Duration,
    pub(super) synced: Memory,
    /// What the kernel says that the agent's maps take.
    pub(super) map_bytes: u64,
    pub(super) rate: u32,
    pub(super) latency: Percentiles,
    pub(super) churn: u32,
    pub(super) churn_took: Duration,
    pub(super) before_churn: Memory,
    pub(super) after_churn: Memory,
}

/// Runs the whole measurement in a lab of its own.
pub(super) fn measure(arguments: &ScaleArgs, agent: &Path) -> Result<Results> {
    let (services, endpoints) = (arguments.services, arguments.endpoints);
    let mut objects = Objects::new(services, endpoints, arguments.dual_stack)?;
    terminal::heading("Scale");
    terminal::note("laying out the lab");
    interrupt::clean_up()?;
    let cluster = Cluster::new(Options {
        network: PodNetwork::default(),
        pods_per_node: 0,
    })?;
    let server = cluster.client.run(|| {
        ApiServer::start(apiserver::Options {
            ip: addresses::client().v4.into(),
            history: Some(HISTORY),
            streaming_lists: !arguments.paged,
            ..apiserver::Options::default()
        })
    })??;
    let node = &cluster.nodes[0];
    server.apply(objects::node(&node.name));
    for object in objects.all() {
        server.apply(object);
    }

    terminal::note(&format!(
        "{services} Services with {endpoints} endpoints each"
    ));
    let started = Instant::now();
    let sizes = map_sizes(arguments);
    let sizes = sizes.each_ref().map(String::as_str);
    let agent = Agent::start_at(agent, node, &server.url(), &sizes)?;
    agent.wait_programmed_within(SYNC_PATIENCE)?;
    let first_sync = started.elapsed();
    let maps = AgentMaps::of(agent.id())?;
    thread::sleep(REST);
    let synced = Memory::of(agent.id())?;

    terminal::note(&format!(
        "{} changes at {} a second",
        arguments.changes, arguments.rate
    ));
    let latency = steadily(arguments, &mut objects, &server, &maps)?;

    terminal::note(&format!("{} changes at once", arguments.churn));
    let before_churn = Memory::of(agent.id())?;
    let started = Instant::now();
    flood(arguments.churn, &mut objects, &server, &maps)?;
    let churn_took = started.elapsed();
    thread::sleep(REST);
    Ok(Results {
        services,
        endpoints,
        dual_stack: arguments.dual_stack,
        first_sync,
        synced,
        map_bytes: maps.bytes(),
        rate: arguments.rate,
        latency,
        churn: arguments.churn,
        churn_took,
        before_churn,
        after_churn: Memory::of(agent.id())?,
    })
}

/// The agent's defaults where they are enough, and what is needed where not.
fn map_sizes(arguments: &ScaleArgs) -> [String; 6] {
    let frontends = arguments.services.max(32_768) * 2;
    let backends = (arguments.services * arguments.endpoints).max(131_072) * 2;
    [
        "--map-frontends".to_owned(),
        frontends.to_string(),
        "--map-backends".to_owned(),
        backends.to_string(),
        "--map-slots".to_owned(),
        (backends * 4).to_string(),
    ]
}

/// Changes endpoints at a steady rate, and measures how long each takes from the call
/// of the server to the kernel's map.
fn steadily(
    arguments: &ScaleArgs,
    objects: &mut Objects,
    server: &ApiServer,
    maps: &AgentMaps,
) -> Result<Percentiles> {
    let interval = Duration::from_secs(1) / arguments.rate.max(1);
    let mut next = Instant::now();
    let mut took = Vec::new();
    for _ in 0..arguments.changes {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += interval;
        let (slice, change) = objects.change();
        let started = Instant::now();
        server.apply(slice);
        wait_for(&change, maps)?;
        took.push(started.elapsed());
    }
    Ok(Percentiles::of(took))
}

/// Changes endpoints as fast as the agent takes it: a window of changes at a time.
fn flood(churn: u32, objects: &mut Objects, server: &ApiServer, maps: &AgentMaps) -> Result<()> {
    let mut left = churn;
    while left > 0 {
        let window = left.min(WINDOW);
        let mut last = None;
        for _ in 0..window {
            let (slice, change) = objects.change();
            server.apply(slice);
            last = Some(change);
        }
        if let Some(last) = last {
            wait_for(&last, maps)?;
        }
        left -= window;
    }
    Ok(())
}

/// Waits until packets to a Service can find its new endpoint.
fn wait_for(change: &Change, maps: &AgentMaps) -> Result<()> {
    let deadline = Instant::now() + CHANGE_PATIENCE;
    while !maps.serve(change.frontend, change.endpoint)? {
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
