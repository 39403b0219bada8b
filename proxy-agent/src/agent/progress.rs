//! How changes become effective, measured for the metrics.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::metrics::{Metrics, PolicyKind, SyncExtent};
use crate::model::desired::{DesiredPort, FrontendKind, PortName};
use crate::model::object::{Change, Family, TrafficPolicy};

/// Changes of endpoints whose age is measured at a time. More come together only where
/// a map refuses writes for long, and then a part of them says as much.
const MAX_TRIGGERS: usize = 10_000;

/// Follows changes from the model into the maps.
pub(super) struct Progress {
    metrics: Metrics,
    /// What changed before is not of this agent's making.
    started: SystemTime,
    /// When the oldest change was taken in that is not in the maps.
    since: Option<Instant>,
    /// When the changes happened that EndpointSlices report.
    triggers: Vec<(Family, SystemTime)>,
    /// Ports that have endpoints but none here where the policy wants one.
    without_local: BTreeSet<(PolicyKind, PortName)>,
}

impl Progress {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            started: SystemTime::now(),
            since: None,
            triggers: Vec::new(),
            without_local: BTreeSet::new(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A change goes to the model.
    pub(super) fn observe(&self, change: &Change) {
        let metrics = &self.metrics.kube_proxy;
        match change {
            // kube-proxy counts it once in each family, ...
            Change::Service(_) | Change::ServiceGone(_) => {
                metrics.service_changes.add(Family::ALL.len());
            }
            // ... and this in its own.
            Change::EndpointSlice(_) | Change::EndpointSliceGone(_) => {
                metrics.endpoint_changes.add(1);
            }
            _ => return,
        }
        metrics.queued(SystemTime::now());
    }

    /// A port is about to be programmed, or to go.
    pub(super) fn note_port(&mut self, name: &PortName, desired: Option<&DesiredPort>) {
        for policy_kind in [PolicyKind::Internal, PolicyKind::External] {
            let lacks = desired.is_some_and(|port| lacks_local(port, policy_kind));
            self.set_without_local(policy_kind, name, lacks);
        }
    }

    /// Changes are on their way into the maps: the oldest came at `since`, and
    /// EndpointSlices say that it happened at the times of `triggers`.
    pub(super) fn begin(&mut self, since: Option<Instant>, triggers: Vec<(Family, i64)>) {
        self.since = self.since.into_iter().chain(since).min();
        let times = triggers.into_iter().filter_map(|(family, milliseconds)| {
            let milliseconds = u64::try_from(milliseconds).ok()?;
            let time = UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))?;
            (time > self.started).then_some((family, time))
        });
        let room = MAX_TRIGGERS.saturating_sub(self.triggers.len());
        self.triggers.extend(times.take(room));
    }

    /// A round of programming is over.
    pub(super) fn end(&self, extent: SyncExtent, took: Duration) {
        self.metrics.kube_proxy.programmed(extent, took);
    }

    /// The maps have everything.
    pub(super) fn mark_synced(&mut self) {
        let now = SystemTime::now();
        let metrics = &self.metrics.kube_proxy;
        metrics.up_to_date(now);
        metrics.service_changes.mark_synced();
        metrics.endpoint_changes.mark_synced();
        for (family, time) in self.triggers.drain(..) {
            let age = now.duration_since(time).unwrap_or_default();
            metrics.endpoints_programmed(family, age);
        }
        if let Some(since) = self.since.take() {
            self.metrics.own.programmed(since.elapsed());
        }
    }

    /// Keeps the numbers of Service ports without a local endpoint.
    fn set_without_local(&mut self, policy_kind: PolicyKind, name: &PortName, lacks: bool) {
        let key = (policy_kind, name.clone());
        let gauge = self
            .metrics
            .kube_proxy
            .no_local_endpoints(name.family, policy_kind);
        if lacks {
            if self.without_local.insert(key) {
                gauge.inc();
            }
        } else if self.without_local.remove(&key) {
            gauge.dec();
        }
    }
}

/// Whether the policy of one kind wants a local endpoint, and there are only others.
fn lacks_local(port: &DesiredPort, policy_kind: PolicyKind) -> bool {
    let is_external = |kind| !matches!(kind, FrontendKind::ClusterIp | FrontendKind::LeftToHost);
    let policy = match policy_kind {
        PolicyKind::Internal => port.internal_policy,
        PolicyKind::External if port.frontends.iter().any(|it| is_external(it.kind)) => {
            port.external_policy
        }
        PolicyKind::External => TrafficPolicy::Cluster,
    };
    policy == TrafficPolicy::Local && port.local.is_empty() && !port.endpoints.is_empty()
}
