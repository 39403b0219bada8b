//! From settings to a runtime: prepares process and kernel, takes over what is pinned, and
//! starts what the loop drives.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::interval;
use tracing::info;

use super::grace_period::GracePeriod;
use super::interfaces::Interfaces;
use super::liveness::{LivenessWatch, UnansweredCount};
use super::loading::while_loading;
use super::notifiers::Notifiers;
use super::pace::SyncPacer;
use super::pinned_state::{self, Opened, Takeover};
use super::reports::Reports;
use super::signals::Signals;
use super::{Configuration, Runtime, SetLogLevel};
use super::{objects, process, sweep};
use crate::attach::Features;
use crate::config::{Settings, Source};
use crate::host::{self, HostPorts};
use crate::maps::{Pins, Standby, release_object};
use crate::metrics::Metrics;
use crate::serve::{self, ReportClient};
use crate::status::Condition;

/// Requests for a report that may wait.
const WAITING_QUERIES: usize = 16;

/// How often all devices are looked at and failed writes are retried without a cause: a
/// notification can be lost, and what was refused may be possible now.
const REVIEW_INTERVAL: Duration = Duration::from_secs(10);

/// A runtime; none where a signal came first.
pub(super) async fn start(
    mut configuration: Configuration,
    source: Source,
    set_log_level: SetLogLevel,
) -> Result<Option<Runtime>> {
    let mut signals = Signals::new()?;
    configuration.log_documents();
    configuration.log_ignored();
    let settings = configuration.settings();
    prepare(settings)?;
    let node_name = configuration.node_name();
    let mut host_ports = host::watch(HostPorts::read().await?);
    let (reports, mut requests) = mpsc::channel(WAITING_QUERIES);
    let (succeeded, is_succeeded) = watch::channel(false);
    let reports = ReportClient::new(reports, is_succeeded);
    let before = watch::Sender::new(Some(Condition::Starting));
    answer_probes(settings, before.subscribe(), &reports);
    let stand_by = || {
        before.send_replace(Some(Condition::Standby));
    };
    let Opened { pins, standby } = tokio::select! {
        () = signals.next() => return Ok(None),
        opened = pinned_state::open(settings, stand_by) => opened?,
    };
    before.send_replace(None);
    let metrics = Metrics::default();
    let is_standby = standby.is_some();
    let mut health = Some(HealthServer {
        address: settings.health_address,
        reports: reports.clone(),
        metrics: metrics.clone(),
        standby,
    });
    let serves_already = pins.as_ref().is_some_and(Pins::were_attached);
    let notifiers = Notifiers::new(
        &node_name,
        &source,
        metrics.requests.clone(),
        reports.clone(),
    );
    // A standby leaves it to the agent that knows more.
    if let Some(health) = health.take_if(|_| serves_already && !is_standby) {
        health.start();
    }
    let (mut source, changes) = objects::start(source, node_name.clone(), metrics.requests.clone());
    let loading = {
        let (node_name, settings, metrics) = (node_name.clone(), settings.clone(), metrics.clone());
        spawn_blocking(move || pinned_state::take_over(&node_name, &settings, pins, &metrics))
    };
    let loaded = while_loading(loading, settings, &mut signals, &mut source, &mut requests);
    let Some(Takeover {
        mut agent,
        attacher,
        records,
        handover,
        sockets,
    }) = loaded.await?
    else {
        return Ok(None);
    };
    process::trim_heap();
    release_object();
    let records = sweep::watch(records);
    let interfaces = Interfaces::new(attacher, handover)?;
    agent.set_host_ports(host_ports.borrow_and_update().clone());
    serve_metrics(&configuration, &reports, &metrics);
    if let Some(health) = health.take_if(|_| !is_standby) {
        health.start();
    }
    let unanswered = UnansweredCount::start(agent.maps().counters())?;
    let pace = SyncPacer::new(settings.min_sync_period);
    let audit = interval(settings.own.audit_period);
    configuration.follow_files();
    info!(node = node_name, "started");
    Ok(Some(Runtime {
        agent,
        signals,
        source,
        reports: Reports::new(requests, records),
        succeeded,
        grace: GracePeriod::default(),
        pace,
        changes,
        configuration,
        set_log_level,
        interfaces,
        host_ports,
        sockets,
        liveness: LivenessWatch::new(unanswered),
        notifiers,
        health,
        review: interval(REVIEW_INTERVAL),
        audit,
    }))
}

/// Makes the process ready for these settings, and finds out whether the kernel is.
fn prepare(settings: &Settings) -> Result<()> {
    process::set_oom_score_adj(settings.oom_score_adj);
    process::raise_file_limit();
    process::raise_memory_limit();
    let features = Features::probe();
    log_features(&features);
    features.allow(settings.own.attach)?;
    Ok(())
}

/// Logs what the running kernel has, once.
fn log_features(features: &Features) {
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

/// Answers the kubelet's probes, for as long as the process runs.
fn answer_probes(
    settings: &Settings,
    before: watch::Receiver<Option<Condition>>,
    reports: &ReportClient,
) {
    if let Some(socket) = &settings.own.probe_socket {
        tokio::spawn(serve::local(socket.clone(), before, reports.clone()));
    }
}

/// Answers requests for metrics, for as long as the process runs.
fn serve_metrics(configuration: &Configuration, reports: &ReportClient, metrics: &Metrics) {
    let address = configuration.settings().metrics_address;
    let configz = configuration.configz();
    let metrics = serve::metrics(address, reports.clone(), metrics.clone(), configz);
    tokio::spawn(metrics);
}

/// The server of health checks before it is started.
pub(super) struct HealthServer {
    address: SocketAddr,
    reports: ReportClient,
    metrics: Metrics,
    standby: Option<Standby>,
}

impl HealthServer {
    /// Starts it, for as long as the process runs. When it listens, the agent before may end.
    pub(super) fn start(self) {
        tokio::spawn(serve::health(
            self.address,
            self.reports,
            self.metrics,
            self.standby,
        ));
    }
}
