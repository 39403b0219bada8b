//! The agent's core: keeps the maps in step with the model.
//!
//! It owns the one direction in which everything flows: changes into the model,
//! the model's changes into the plan, the plan into the maps. It does no I/O of
//! its own but for the maps.

mod audit;
mod cluster_ips;
mod device_addresses;
mod node;
mod operators;
mod progress;
mod source_ports;
mod summary;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use crate::config::Settings;
use crate::host::{Connection, HostPorts};
use crate::maps::{MapError, Maps, Readable, Writer, synchronize_rcu};
use crate::metrics::{Metrics, SyncExtent};
use crate::model::object::{Family, Protocol};
use crate::model::{Change, HealthCheck, Model, ModelSettings, ObjectName};
use crate::plan::{
    BackendId, Capacity, FrontendId, IncompatibleMaps, Plan, Planner, Retired, Write,
};
use crate::recorder::Event;
use crate::status::Refusals;

use cluster_ips::ClusterIps;
pub use node::HostRoutes;
use node::NodeState;
use progress::Progress;
use summary::Summary;

/// Joins model, plan and maps.
pub struct Agent<M> {
    model: Model,
    planner: Planner,
    writer: Writer<M>,
    node: NodeState,
    retired: Retired,
    node_changed: bool,
    /// Whether the life of a backend ended.
    backend_ended: bool,
    is_programmed: bool,
    started: SystemTime,
    last_updated: Option<SystemTime>,
    /// Since when no write has been refused.
    in_sync_since: Option<SystemTime>,
    refusals: Refusals,
    /// What is to be reported at the objects.
    events: Vec<Event>,
    cluster_ips: ClusterIps,
    progress: Progress,
    summary: Summary,
    /// Since when a change waits to be programmed.
    waiting_since: Option<Instant>,
    /// A change that waits for longer is a sign of bad health.
    health_timeout: Duration,
    /// When connections were last reset.
    last_reset: Option<Instant>,
}

/// The least time between two rounds of resets: each looks through all endpoints, and the
/// host's sockets.
const RESET_PAUSE: Duration = Duration::from_secs(1);

/// The maps that an agent has left behind cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// They cannot be read.
    #[error(transparent)]
    Unreadable(#[from] MapError),
    /// What they hold cannot be used.
    #[error("cannot adopt the maps of the previous agent: {0}")]
    Incompatible(#[from] IncompatibleMaps),
}

impl<M: Maps> Agent<M> {
    /// An agent for empty maps, on the node of this name.
    pub fn new(node_name: &str, settings: &Settings, maps: M) -> Self {
        let sizes = &settings.own.maps;
        Self {
            model: Model::new(node_name, model_settings(settings)),
            planner: Planner::new(Capacity {
                frontends: sizes.frontends,
                backends: sizes.backends,
                slots: sizes.slots,
            })
            .with_resets(settings.own.reset_gone_endpoints),
            writer: Writer::new(maps),
            node: NodeState::new(settings),
            retired: Retired::default(),
            node_changed: false,
            backend_ended: false,
            is_programmed: false,
            started: SystemTime::now(),
            last_updated: None,
            in_sync_since: None,
            refusals: Refusals::default(),
            events: Vec::new(),
            cluster_ips: ClusterIps::new(sizes.cluster_ips()),
            progress: Progress::new(Metrics::default()),
            summary: Summary::default(),
            waiting_since: None,
            health_timeout: settings.health_timeout(),
            last_reset: None,
        }
    }

    /// Counts by these metrics.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Self {
        self.progress = Progress::new(metrics);
        self
    }

    /// Says that programs are attached already, which an agent has left.
    pub fn note_attached(&mut self) {
        self.node.was_attached = true;
    }

    /// Goes on from what the maps hold, where an agent has left them behind; before
    /// anything is programmed.
    ///
    /// # Errors
    ///
    /// The maps hold something else than an agent's work, or more than there is room for.
    pub fn adopt(&mut self) -> Result<(), AdoptError>
    where
        M: Readable,
    {
        let mut content = self.writer.maps_mut().read()?;
        self.writer.maps_mut().add_to_filter(&content)?;
        // Nobody looks any more at what the last agent had just replaced.
        synchronize_rcu();
        for write in self.planner.adopt(&content, Instant::now())? {
            self.writer.write(write);
        }
        info!(
            frontends = content.frontends.len(),
            "adopted the maps of the previous agent"
        );
        self.cluster_ips
            .adopt(std::mem::take(&mut content.cluster_ips));
        self.node.adopt(content);
        Ok(())
    }

    /// Takes in the settings that may change at run time; the rest stays as it is.
    pub fn configure(&mut self, settings: &Settings) {
        self.node.configure(settings);
        self.health_timeout = settings.health_timeout();
        self.model.configure(model_settings(settings));
        self.note_change();
    }

    /// The maps.
    pub fn maps(&self) -> &M {
        self.writer.maps()
    }

    /// The maps, to read what only they know.
    pub fn maps_mut(&mut self) -> &mut M {
        self.writer.maps_mut()
    }

    /// The maps, as an agent that ends leaves them.
    pub fn into_maps(self) -> M {
        self.writer.into_maps()
    }

    /// Takes changes into the model.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.progress.observe(&change);
            self.node_changed |= matches!(change, Change::NodeListed);
            self.model.apply(change);
        }
        self.note_change();
    }

    /// Takes in the addresses that each of this node's devices has.
    pub fn set_local_addresses(&mut self, devices: BTreeMap<u32, Vec<IpAddr>>) {
        let all = devices.values().flatten().copied();
        self.model.set_local_addresses(all.collect());
        self.node.devices().set(devices);
        self.note_change();
    }

    /// One of the addresses that Services have inside the cluster.
    pub fn any_cluster_ip(&self, family: Family) -> Option<IpAddr> {
        self.cluster_ips.any(family)
    }

    /// The backend of a connection that netfilter translates, where the programs can translate it
    /// the same way: they see no packets of the host itself before netfilter.
    pub fn backend_of(&self, connection: &Connection) -> Option<BackendId> {
        if self.node.has_address(connection.client.ip()) {
            return None;
        }
        let protocol = Protocol::of_number(connection.protocol)?;
        let frontend = connection.frontend;
        let exact = FrontendId {
            address: frontend.ip(),
            port: frontend.port(),
            protocol,
        };
        let node_port = FrontendId {
            address: match frontend.ip() {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            },
            ..exact
        };
        let is_here = self.node.addresses().node_ports.contains(&frontend.ip());
        [Some(exact), is_here.then_some(node_port)]
            .into_iter()
            .flatten()
            .find_map(|id| self.planner.backend_of(&id, connection.endpoint))
    }

    /// Takes in how the host routes.
    pub fn set_host_routes(&mut self, family: Family, routes: HostRoutes) {
        if self.node.set_host_routes(family, routes) {
            let HostRoutes {
                leave_by_uplink,
                by_source,
            } = routes;
            info!(?family, leave_by_uplink, by_source, "routes of the host");
            self.note_change();
        }
    }

    /// Leaves Services at these addresses to what answers there on the host.
    pub fn set_host_frontends(&mut self, addresses: BTreeSet<IpAddr>) {
        self.model.set_host_frontends(addresses);
        self.note_change();
    }

    /// Leaves the host's ports to the host.
    pub fn set_host_ports(&mut self, host: HostPorts) {
        self.node.source_ports().set_host(host);
        self.note_change();
    }

    fn note_change(&mut self) {
        if self.is_programmed {
            self.waiting_since.get_or_insert_with(Instant::now);
        }
    }

    /// Brings the maps to what the model wants; nothing until the first lists are
    /// complete. Returns whether there was something to do.
    pub fn program(&mut self) -> bool {
        if !self.model.is_complete() {
            return false;
        }
        let began = Instant::now();
        let waiting_since = self.waiting_since.take();
        for warning in self.model.take_warnings() {
            warn!(service = %warning.service, "not accepted: {}", warning.reason);
            self.progress.metrics().own.warned(warning.reason.name());
            self.add_event(Event::from(&warning));
        }
        self.writer.retry_pending();
        let before = self.writer.made();
        for write in self.node_writes() {
            self.writer.write(write);
        }
        let is_first = !std::mem::replace(&mut self.is_programmed, true);
        let mut ports = 0_usize;
        let changes = self.model.take_changes().inspect(|(name, desired)| {
            ports += 1;
            self.progress.note_port(name, desired.as_ref());
        });
        let plan = self.planner.plan(changes, |after, write| {
            self.backend_ended |= matches!(write, Write::EndBackend { .. });
            self.node.source_ports().note(&write);
            self.writer.write_after(after, write);
        });
        for write in self.cluster_ip_writes() {
            self.writer.write(write);
        }
        // A NodePort that came may have been a source port.
        for write in self.node_writes() {
            self.writer.write(write);
        }
        let writes = self.writer.made() - before;
        let is_idle = ports == 0 && writes == 0 && !is_first;
        let since = waiting_since.filter(|_| !is_idle);
        self.progress.begin(since, self.model.take_triggers());
        if is_idle {
            // What came changes nothing, so the maps have it, unless writes are pending.
            self.finish_plan(plan);
            return false;
        }
        self.finish_plan(plan);
        let extent = if is_first {
            SyncExtent::Full
        } else {
            SyncExtent::Partial
        };
        self.progress.end(extent, began.elapsed());
        self.summary.add(ports, writes, self.planner.programmed());
        true
    }

    /// The writes that follow from ClusterIPs that came or went. New ranges of them are
    /// settings, which come after the addresses in them.
    fn cluster_ip_writes(&mut self) -> Vec<Write> {
        let changes = self.model.take_cluster_ip_changes();
        if let Some(ranges) = changes.ranges {
            let dropped = self.node.set_service_ranges(&ranges);
            if dropped > 0 {
                let event = Event::ranges_dropped(self.model.node_name(), dropped);
                warn!("{}", event.note);
                self.progress.metrics().own.warned(event.reason);
                self.add_event(event);
            }
        }
        self.cluster_ips.writes(changes.taken, changes.freed)
    }

    /// Retries what a map refused.
    pub fn retry(&mut self) {
        if self.writer.has_pending() {
            self.writer.retry_pending();
            self.finish_plan(Plan::default());
        }
    }

    /// Logs what was programmed since that was last logged, at most once a minute.
    pub fn log_summary(&mut self) {
        self.summary.log(self.planner.programmed());
    }

    /// Takes what was replaced so far and may be used again after a grace period;
    /// hand it to [`Self::reclaim`] then. What a pending write should have replaced is
    /// still in use.
    pub fn take_retired(&mut self) -> Option<Retired> {
        let writer = &self.writer;
        let written = self.retired.take_written(|after| writer.is_written(after));
        (!written.is_empty()).then_some(written)
    }

    /// Uses again what was replaced before a grace period.
    pub fn reclaim(&mut self, retired: Retired) {
        self.writer.retry_pending();
        let desired = |service: &ObjectName| self.model.desired_of(service);
        let plan = self
            .planner
            .reclaim(retired, Instant::now(), desired, |after, write| {
                self.node.source_ports().note(&write);
                self.writer.write_after(after, write);
            });
        self.finish_plan(plan);
    }

    /// When [`Self::reset_gone`] is to be called next.
    pub fn next_reset(&self) -> Option<Instant> {
        let next = self.planner.next_reset()?;
        let soonest = self
            .last_reset
            .and_then(|last| last.checked_add(RESET_PAUSE));
        Some(soonest.map_or(next, |soonest| next.max(soonest)))
    }

    /// Has TCP connections reset to endpoints that have been gone for long enough at this
    /// time; whether there were such endpoints.
    pub fn reset_gone(&mut self, now: Instant) -> bool {
        self.last_reset = Some(now);
        self.writer.retry_pending();
        let before = self.writer.made();
        self.planner
            .reset_gone(now, |write| self.writer.write(write));
        let endpoints = self.writer.made() - before;
        if endpoints > 0 {
            info!(endpoints, "resetting TCP connections to removed endpoints");
        }
        endpoints > 0
    }

    /// What is planned, and the maps that hold it, to be read together.
    pub fn plan_and_maps(&mut self) -> (&Planner, &mut M) {
        (&self.planner, self.writer.maps_mut())
    }

    /// Whether the first state is in the maps.
    pub fn is_programmed(&self) -> bool {
        self.is_programmed
    }

    /// Whether it is known what this node's object says, or that there is none.
    pub fn is_node_listed(&self) -> bool {
        self.model.is_node_listed()
    }

    /// Whether the node's addresses changed or came to be known since the last call, or the
    /// first state was programmed.
    pub fn take_node_change(&mut self) -> bool {
        std::mem::take(&mut self.node_changed)
    }

    /// The ids of the Pods whose sockets are left alone, if these are others than at the
    /// last call.
    pub fn take_opted_out_pods(&mut self) -> Option<BTreeSet<Arc<str>>> {
        self.model.take_opted_out_pods()
    }

    /// Whether the life of a backend ended since the last call.
    pub fn take_backend_ended(&mut self) -> bool {
        std::mem::take(&mut self.backend_ended)
    }

    /// What is counted and measured.
    pub fn metrics(&self) -> &Metrics {
        self.progress.metrics()
    }

    /// Reports at the node that its own processes are not served at their sockets.
    pub fn report_no_socket_path(&mut self, reason: &str) {
        let event = Event::no_socket_path(self.model.node_name(), reason);
        self.progress.metrics().own.warned(event.reason);
        self.add_event(event);
    }

    /// Reports at a Service that one of its endpoints does not answer.
    pub fn report_suspect(&mut self, service: &ObjectName, endpoint: SocketAddr) {
        let node = self.model.node_name();
        let event = Event::unanswered(node, service.clone(), endpoint);
        self.events.push(event);
    }

    /// What happened since the last call that should be reported at the objects.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The health checks that may have changed since the last call.
    pub fn take_health_checks(&mut self) -> Vec<(ObjectName, Option<HealthCheck>)> {
        self.model.take_health_checks()
    }

    /// The addresses on which health checks answer, as they were last programmed.
    pub fn health_check_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.node.addresses().health_checks
    }

    /// The addresses by which this node is known.
    pub fn own_addresses(&self) -> &BTreeSet<IpAddr> {
        &self.node.addresses().own
    }

    /// The writes that follow from a change of the node's addresses or settings.
    fn node_writes(&mut self) -> Vec<Write> {
        let now = self.model.node_addresses();
        if !self.is_programmed || now.own != *self.own_addresses() {
            self.node_changed = true;
        }
        self.node.writes(now)
    }

    /// Takes note of what a plan left behind, its writes being made.
    fn finish_plan(&mut self, plan: Plan) {
        for refused in &plan.capacity_errors {
            warn!(service = %refused.port.service, "not served as it should be: {refused}");
            let event = Event::from(refused);
            self.progress.metrics().own.warned(event.reason);
            self.add_event(event);
        }
        let failures: HashMap<_, _> = self.writer.take_failures().into_iter().collect();
        if !failures.is_empty() {
            let ports = self.planner.ports();
            let failed = ports.filter_map(|(name, id, _)| Some((name, failures.get(&id)?)));
            let events =
                failed.map(|(name, reason)| Event::not_programmed(name.service.clone(), reason));
            let events: Vec<_> = events.collect();
            for event in events {
                self.add_event(event);
            }
        }
        self.retired.extend(plan.retired);
        if self.writer.has_pending() {
            self.in_sync_since = None;
        } else {
            let now = SystemTime::now();
            self.last_updated = Some(now);
            self.in_sync_since.get_or_insert(now);
            self.progress.mark_synced();
        }
    }
}

fn model_settings(settings: &Settings) -> ModelSettings {
    ModelSettings {
        external_ips: settings.own.external_ips.clone(),
        bind_address: settings.bind_address,
        node_port_addresses: settings.node_port_addresses.clone(),
        algorithm: settings.own.algorithm,
        forwarding: settings.own.forwarding,
    }
}

#[cfg(test)]
mod tests;
