//! The command `run`: wires the source, the agent and the devices together.

use std::time::Duration;

use anyhow::{Context as _, Result};
use proxy_ebpf::layout::Counter;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info};

use super::configuration::Configuration;
use super::edges::Edges;
use super::kept;
use super::logging::Level;
use super::outlets::Outlets;
use super::pace::Pace;
use super::{process, resets, sweep, traffic};
use crate::agent::Agent;
use crate::attach::{Attacher, Features, Look};
use crate::config::kube_proxy::Parsed;
use crate::config::{ConfigFile, FileError, Settings, Source};
use crate::host;
use crate::maps::{self, KernelMaps};
use crate::metrics::Metrics;
use crate::model::Change;
use crate::plan::Retired;
use crate::serve::{self, Asker, CounterValue, Detail, DevicesReport, Report};
use crate::source::{files, kube};

/// Batches of changes that may wait between the source and the model.
const WAITING_BATCHES: usize = 64;

/// Requests for a report that may wait.
const WAITING_QUERIES: usize = 16;

/// How often the devices are looked over and owed writes tried again without a
/// cause: a notification can be lost, and what was refused may be possible now.
const REVIEW_INTERVAL: Duration = Duration::from_secs(10);

/// Serves until a signal comes.
pub(super) fn run(
    configuration: Configuration,
    file: Option<ConfigFile>,
    level: &Level,
) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run_until_signal(configuration, file, level))
}

async fn run_until_signal(
    mut configuration: Configuration,
    file: Option<ConfigFile>,
    level: &Level,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    configuration.name_ignored();
    let settings = configuration.settings();
    prepare(settings)?;
    let node_name = configuration.node_name();
    let mut ports = host::watch(host::HostPorts::read().await?);
    let pins = tokio::select! {
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
        pins = kept::pins(settings) => pins?,
    };
    let kept::Start {
        mut agent,
        attacher,
        records,
        handover,
        mut sockets,
    } = kept::take_over(&node_name, settings, pins)?;
    process::give_memory_back();
    let records = sweep::watch(records);
    let mut edges = Edges::new(attacher, handover)?;
    let (sender, mut changes) = mpsc::channel(WAITING_BATCHES);
    let source = start_source(configuration.source(), &node_name, sender);
    tokio::pin!(source);
    let (asker, mut queries) = mpsc::channel(WAITING_QUERIES);
    let asker = Asker::new(asker);
    agent.set_host_ports(ports.borrow_and_update().clone());
    let (configz, shown) = watch::channel(configuration.shown());
    listen(settings, &asker, agent.metrics(), shown);
    let mut outlets = Outlets::new(&node_name, &configuration.source(), asker);
    let mut reads = follow(file);
    let mut pace = Pace::new(settings.min_sync_period);
    info!(node = node_name, "started");

    let mut grace = Grace::default();
    let mut review = tokio::time::interval(REVIEW_INTERVAL);
    let mut audit = tokio::time::interval(settings.own.audit_period);
    edges.reconcile(&mut agent, Look::AtAll).await;
    loop {
        grace.begin(&mut agent);
        outlets.record(&mut agent);
        tokio::select! {
            // What is quick and must not starve comes first: under a flood of changes
            // probes are answered, and slots become free again. Objects come before
            // devices, which are of no use without them.
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut source => return ended.context("the source of objects ended"),
            Some(query) = queries.recv() => {
                // Who asked may have gone.
                let mut report = report(&mut agent, edges.attacher(), query.detail);
                report.records = records.borrow().clone();
                let _ = query.answer.send(report);
            }
            retired = grace.over() => agent.reclaim(retired),
            () = pace.due() => {
                pace.done(agent.program());
                sockets.follow(&mut agent, edges.attacher_mut()).await;
                if agent.take_node_change() {
                    edges.reconcile(&mut agent, Look::AtAll).await;
                }
                outlets.follow(&mut agent).await;
            }
            Some(batch) = changes.recv() => {
                take_in(&mut agent, batch, &mut changes);
                pace.want();
            }
            Some(read) = reads.recv() => {
                if configuration.take(read) {
                    configz.send_replace(configuration.shown());
                    let settings = configuration.settings();
                    level.set(settings.log.level);
                    process::set_oom_score_adj(settings.oom_score_adj);
                    pace.set_period(settings.min_sync_period);
                    agent.configure(settings);
                    pace.want();
                }
            }
            () = edges.changed() => {
                edges.reconcile(&mut agent, Look::AtChanges).await;
                pace.want();
            }
            Ok(()) = ports.changed() => {
                agent.set_host_ports(ports.borrow_and_update().clone());
                pace.want();
            }
            () = resets::due(&agent) => resets::make(&mut agent, &mut sockets).await,
            () = sockets.look_is_due() => sockets.find_pods(),
            _ = review.tick() => {
                agent.retry();
                outlets.retry().await;
                sockets.review(&mut agent, edges.attacher_mut()).await;
                edges.reconcile(&mut agent, Look::AtAll).await;
                pace.want();
            }
            _ = audit.tick() => agent.audit(),
        }
    }
    edges.leave();
    Ok(())
}

/// Makes the process ready for these settings, and finds out whether the kernel is.
fn prepare(settings: &Settings) -> Result<()> {
    process::set_oom_score_adj(settings.oom_score_adj);
    process::raise_file_limit();
    process::raise_memory_limit();
    let features = Features::probe();
    show(&features);
    features.allow(settings.own.attach)?;
    Ok(())
}

/// Tells what the running kernel has, once.
fn show(features: &Features) {
    let Features {
        release,
        tcx,
        xdp_redirect_targets,
        set_retval,
        netns_cookie,
    } = features;
    info!(
        release,
        tcx, xdp_redirect_targets, set_retval, netns_cookie, "kernel"
    );
}

/// Answers requests over HTTP, for as long as the process runs.
fn listen(settings: &Settings, asker: &Asker, metrics: &Metrics, configz: watch::Receiver<Value>) {
    let (health, metrics_at) = (settings.health_address, settings.metrics_address);
    tokio::spawn(serve::health(health, asker.clone(), metrics.clone()));
    let metrics = serve::metrics(metrics_at, asker.clone(), metrics.clone(), configz);
    tokio::spawn(metrics);
}

/// What the configuration file holds, whenever that has changed.
fn follow(file: Option<ConfigFile>) -> mpsc::Receiver<Result<Parsed, FileError>> {
    let (sender, reads) = mpsc::channel(1);
    if let Some(file) = file {
        tokio::spawn(file.follow(sender));
    }
    reads
}

/// How the agent is, for whoever asks over HTTP.
fn report(agent: &mut Agent<KernelMaps>, attacher: &Attacher, detail: Detail) -> Report {
    let counters = Counter::ALL.into_iter().filter_map(|(counter, name)| {
        Some(CounterValue {
            counter,
            name,
            value: agent.maps().counter(counter).ok()?,
        })
    });
    let devices = DevicesReport {
        served: attacher.served(),
        with_xdp: attacher.with_xdp(),
        failing_for: attacher.failing_for(),
    };
    let counters = counters.collect();
    let mut report = agent.report(devices, counters);
    if detail == Detail::Metrics {
        report.traffic = traffic::read(agent);
    }
    report
}

/// The grace period under way, with what may be used again after it.
#[derive(Default)]
struct Grace {
    waiting: Option<(JoinHandle<()>, Retired)>,
}

impl Grace {
    /// Begins a grace period if there is need for one and none is under way.
    fn begin(&mut self, agent: &mut Agent<KernelMaps>) {
        if self.waiting.is_none() {
            self.waiting = agent
                .take_retired()
                .map(|retired| (spawn_blocking(maps::wait_for_readers), retired));
        }
    }

    /// Returns at its end; never while none is under way. Safe to cancel.
    async fn over(&mut self) -> Retired {
        let Some((wait, _)) = &mut self.waiting else {
            return std::future::pending().await;
        };
        if let Err(error) = wait.await {
            error!("waiting for a grace period failed: {error}");
        }
        self.waiting
            .take()
            .map(|(_, retired)| retired)
            .unwrap_or_default()
    }
}

/// Hands the agent a batch, and with it all that came meanwhile: under load
/// changes are merged, when idle they are programmed as they come.
fn take_in(
    agent: &mut Agent<KernelMaps>,
    batch: Vec<Change>,
    changes: &mut mpsc::Receiver<Vec<Change>>,
) {
    agent.apply(batch);
    while let Ok(batch) = changes.try_recv() {
        agent.apply(batch);
    }
}

async fn start_source(
    source: Source,
    node_name: &str,
    sender: mpsc::Sender<Vec<Change>>,
) -> Result<()> {
    match source {
        Source::Kube(settings) => kube::watch(&settings, node_name, sender).await?,
        Source::Files(directory) => files::watch(&directory, node_name, sender).await?,
    }
    Ok(())
}
