//! From settings to a runtime: prepares process and kernel, takes over what is pinned, and
//! starts what the loop drives.

use std::time::Duration;

use anyhow::Result;
use tokio::sync::mpsc;
use tokio::time::interval;
use tracing::info;

use super::grace_period::GracePeriod;
use super::interfaces::Interfaces;
use super::notifiers::Notifiers;
use super::pace::SyncPacer;
use super::pinned_state::{self, Takeover};
use super::reports::Reports;
use super::signals::Signals;
use super::{Configuration, Runtime, SetLogLevel};
use super::{objects, process, sweep};
use crate::attach::Features;
use crate::config::{Settings, Source};
use crate::host::{self, HostPorts};
use crate::metrics::Metrics;
use crate::serve::{self, ReportClient};

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
    let pins = tokio::select! {
        () = signals.next() => return Ok(None),
        pins = pinned_state::open(settings) => pins?,
    };
    let Takeover {
        mut agent,
        attacher,
        records,
        handover,
        sockets,
    } = pinned_state::take_over(&node_name, settings, pins)?;
    process::trim_heap();
    let records = sweep::watch(records);
    let interfaces = Interfaces::new(attacher, handover)?;
    agent.set_host_ports(host_ports.borrow_and_update().clone());
    let (reports, requests) = mpsc::channel(WAITING_QUERIES);
    let reports = ReportClient::new(reports);
    listen(&configuration, &reports, agent.metrics());
    let api_requests = agent.metrics().requests.clone();
    let notifiers = Notifiers::new(&node_name, &source, api_requests.clone(), reports);
    let pace = SyncPacer::new(settings.min_sync_period);
    let audit = interval(settings.own.audit_period);
    configuration.follow_files();
    info!(node = node_name, "started");
    let (source, changes) = objects::start(source, node_name, api_requests);
    Ok(Some(Runtime {
        agent,
        signals,
        source,
        reports: Reports::new(requests, records),
        grace: GracePeriod::default(),
        pace,
        changes,
        configuration,
        set_log_level,
        interfaces,
        host_ports,
        sockets,
        notifiers,
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

/// Answers requests and probes, for as long as the process runs.
fn listen(configuration: &Configuration, reports: &ReportClient, metrics: &Metrics) {
    let settings = configuration.settings();
    let (health_at, metrics_at) = (settings.health_address, settings.metrics_address);
    tokio::spawn(serve::health(health_at, reports.clone(), metrics.clone()));
    let configz = configuration.configz();
    let metrics = serve::metrics(metrics_at, reports.clone(), metrics.clone(), configz);
    tokio::spawn(metrics);
    if let Some(socket) = &settings.own.probe_socket {
        tokio::spawn(serve::local(socket.clone(), reports.clone()));
    }
}
