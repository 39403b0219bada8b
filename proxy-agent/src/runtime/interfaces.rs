//! The node's network devices, as they come and go: each edge device gets the programs.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::handover::Handover;
use crate::agent::{Agent, HostRoutes};
use crate::attach::device::{host_frontends, local_addresses};
use crate::attach::{Attacher, DeviceWatch, DeviceWatchError, ReconcileOutcome, ReconcileScope};
use crate::maps::KernelMaps;
use crate::model::object::Family;
use crate::status::{DeviceReport, DevicesReport};

/// How long devices wait for the node's object, by which uplinks are told from Pods' devices.
/// Whoever may not read it is served all the same.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// The devices, and what is attached to them.
pub(super) struct Interfaces {
    attacher: Attacher,
    handover: Handover,
    devices: DeviceWatch,
    /// Whether all edge devices had the programs at once.
    are_attached: bool,
    /// Whether it is marked for the next agent that programs were attached.
    is_marked: bool,
    /// Since when only the node's object has been missing.
    waiting_for_node: Option<Instant>,
}

impl Interfaces {
    /// Begins to watch the devices.
    pub(super) fn new(attacher: Attacher, handover: Handover) -> Result<Self, DeviceWatchError> {
        Ok(Self {
            attacher,
            handover,
            devices: DeviceWatch::open()?,
            are_attached: false,
            is_marked: false,
            waiting_for_node: None,
        })
    }

    /// What attaches the programs.
    pub(super) fn attacher_mut(&mut self) -> &mut Attacher {
        &mut self.attacher
    }

    /// Returns when a device has changed. Safe to cancel.
    pub(super) async fn next(&mut self) {
        self.devices.changed().await;
    }

    /// Passes the addresses of the node's devices to the agent, and makes the served devices
    /// the edge devices that there are.
    pub(super) async fn reconcile(&mut self, agent: &mut Agent<KernelMaps>, look: ReconcileScope) {
        let present = match self.devices.list().await {
            Ok(present) => present,
            Err(error) => {
                warn!("{:#}; will retry", anyhow::Error::from(error));
                match DeviceWatch::open() {
                    Ok(fresh) => self.devices = fresh,
                    Err(error) => error!("{:#}", anyhow::Error::from(error)),
                }
                return;
            }
        };
        agent.set_local_addresses(local_addresses(&present));
        agent.set_host_frontends(host_frontends(&present));
        // Before the node's addresses are known an uplink may look like a pod's
        // device, and nothing is programmed anyway.
        if !agent.is_programmed() {
            return;
        }
        if !self.knows_node(agent) {
            return;
        }
        self.handover.begin(agent).await;
        let own = agent.own_addresses();
        let outcome = self.attacher.reconcile(&present, own, look);
        self.handover.end(agent).await;
        if look == ReconcileScope::All {
            self.handover.review().await;
        }
        if !std::mem::replace(&mut self.is_marked, true)
            && let Err(error) = self.attacher.mark_attached()
        {
            warn!("{error}");
        }
        log(outcome);
        self.are_attached |= self.attacher.failing_for().is_none();
        self.follow_host_routes(agent).await;
    }

    /// Whether the node's object is known, or was waited for in vain.
    fn knows_node(&mut self, agent: &Agent<KernelMaps>) -> bool {
        let since = self.waiting_for_node.get_or_insert_with(Instant::now);
        agent.is_node_listed() || since.elapsed() >= NODE_TIMEOUT
    }

    /// Passes to the agent how the host routes.
    async fn follow_host_routes(&self, agent: &mut Agent<KernelMaps>) {
        for family in Family::ALL {
            let Some(service) = agent.any_cluster_ip(family) else {
                continue;
            };
            match self.host_routes(service).await {
                Ok(routes) => agent.set_host_routes(family, routes),
                Err(error) => warn!("{:#}; will retry", anyhow::Error::from(error)),
            }
        }
    }

    /// How the host routes what it sends to a Service, and in that one's family.
    async fn host_routes(&self, service: IpAddr) -> Result<HostRoutes, DeviceWatchError> {
        let device = self.devices.output_device(service).await?;
        Ok(HostRoutes {
            leave_by_uplink: device.is_some_and(|it| self.attacher.serves_outside(it)),
            by_source: self.devices.routes_by_source(service).await?,
        })
    }

    /// How many there are, and how they are.
    pub(super) fn report(&self) -> DevicesReport {
        DevicesReport {
            are_attached: self.are_attached,
            served: self.attacher.served(),
            with_xdp: self.attacher.with_xdp(),
            failing_for: self.attacher.failing_for(),
        }
    }

    /// How each edge device is served.
    pub(super) fn device_reports(&self) -> Vec<DeviceReport> {
        self.attacher.device_reports()
    }

    /// Ends; what is pinned is left to the next agent.
    pub(super) fn stop(self) {
        if self.attacher.is_lasting() {
            info!("stopped; pinned programs keep serving");
        } else {
            info!("stopped; the programs are detached");
        }
    }
}

/// Logs what was done.
fn log(outcome: ReconcileOutcome) {
    let ReconcileOutcome {
        attached,
        restored,
        detached,
        failed,
        xdp_attached,
        xdp_failed,
    } = outcome;
    for (device, role) in attached {
        info!(device, ?role, "attached");
    }
    for device in restored {
        warn!(device, "a program was detached by someone else; reattached");
    }
    for device in detached {
        info!(device, "detached");
    }
    for error in failed {
        error!("{:#}", anyhow::Error::from(error));
    }
    for device in xdp_attached {
        info!(device, "XDP attached");
    }
    for error in xdp_failed {
        info!("{:#}", anyhow::Error::from(error));
    }
}
