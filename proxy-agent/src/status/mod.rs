//! The agent's status, as metrics, health checks and operators see it.

mod desired;
mod details;
mod document;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use proxy_ebpf::layout::{Counter, Traffic};

pub use desired::{DesiredEndpoint, DesiredFrontend, DesiredReport};
pub use details::{
    AuditReport, Details, DeviceReport, DeviceRole, Difference, Refusal, Refusals, SocketPathReport,
};
pub use document::{Map, Refused, Server, SocketPath, StatusDocument, Sync};

use crate::choice::choice;
use crate::maps::RecordUsage;
use crate::model::desired::PortName;
use crate::model::object::{Family, Protocol};

choice! {
    /// How the agent is, as probes want to know it.
    pub enum Condition {
        /// It has not attached its programs yet: nothing is programmed, or a device refuses.
        Starting = "starting",
        /// It waits for another agent of the node to end, and takes over then.
        Standby = "standby",
        /// Its programs are attached, and its maps hold what they should.
        Ready = "ready",
        /// A restart may help.
        Unhealthy = "unhealthy",
    }
}

/// What the agent's loop knows of itself.
#[derive(Clone, Debug)]
pub struct Report {
    /// Each IP family.
    pub families: Vec<FamilyReport>,
    /// Whether the Node is known, stays, and is not marked for removal.
    pub node_eligible: bool,
    /// The edge devices.
    pub devices: DevicesReport,
    /// How long that, or a change, may last: twice `syncPeriod`, as in kube-proxy.
    pub health_timeout: Duration,
    /// Service ports in the kernel.
    pub ports: usize,
    /// How full the maps are.
    pub maps: Vec<MapUsage>,
    /// The data path's counters.
    pub counters: Vec<CounterValue>,
    /// The records that the data path keeps, as they were last counted.
    pub records: RecordUsage,
    /// What was translated, where there was something; only for [`Detail::Metrics`].
    pub traffic: Vec<PortTraffic>,
    /// What operators want to know; only for [`Detail::Status`].
    pub details: Option<Details>,
    /// What an audit has found; only for [`Detail::Audit`].
    pub audit: Option<AuditReport>,
    /// What should be served; only for [`Detail::Desired`].
    pub desired: Option<DesiredReport>,
}

/// How much a report has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What decides about health.
    Health,
    /// All that is measured.
    Metrics,
    /// What operators want to know.
    Status,
    /// An audit, made for this report.
    Audit,
    /// What should be served at a destination.
    Desired(SocketAddr, Protocol),
}

/// What was translated for one Service port.
#[derive(Clone, Debug)]
pub struct PortTraffic {
    /// The port.
    pub port: PortName,
    /// All of it, that of endpoints which are gone included.
    pub total: Traffic,
    /// By endpoint.
    pub endpoints: Vec<(SocketAddr, Traffic)>,
}

/// What concerns one IP family.
#[derive(Clone, Copy, Debug)]
pub struct FamilyReport {
    /// Which one.
    pub family: Family,
    /// When its maps were last brought up to date.
    pub last_updated: Option<SystemTime>,
    /// For how long a change has been waiting.
    pub pending_for: Option<Duration>,
}

/// What concerns the edge devices.
#[derive(Clone, Copy, Debug, Default)]
pub struct DevicesReport {
    /// Whether all had programs of this agent at once, so that it has taken over.
    pub are_attached: bool,
    /// How many are served.
    pub served: usize,
    /// How many of them have XDP.
    pub with_xdp: usize,
    /// For how long there has been one that cannot be served.
    pub failing_for: Option<Duration>,
}

/// A counter of the data path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValue {
    /// Which one.
    pub counter: Counter,
    /// Its name.
    pub name: &'static str,
    /// What it has counted.
    pub value: u64,
}

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapUsage {
    /// Its name.
    pub map: &'static str,
    /// Elements in use.
    pub used: u64,
    /// Elements that there are.
    pub capacity: u64,
}

impl Report {
    /// That of an agent that knows nothing yet, and so lets nothing wait.
    pub fn at_start(health_timeout: Duration) -> Self {
        let families = Family::ALL.map(|family| FamilyReport {
            family,
            last_updated: None,
            pending_for: None,
        });
        Self {
            families: families.to_vec(),
            node_eligible: false,
            devices: DevicesReport::default(),
            health_timeout,
            ports: 0,
            maps: Vec::new(),
            counters: Vec::new(),
            records: RecordUsage::default(),
            traffic: Vec::new(),
            details: None,
            audit: None,
            desired: None,
        }
    }

    /// Whether no change of a family has waited for too long.
    pub fn is_family_healthy(&self, family: &FamilyReport) -> bool {
        self.is_bearable(family.pending_for)
    }

    /// Whether the maps of every family hold what they should, and every edge device
    /// has its programs. Reaching the API server is no condition.
    pub fn is_healthy(&self) -> bool {
        let mut families = self.families.iter();
        families.all(|family| self.is_family_healthy(family))
            && self.is_bearable(self.devices.failing_for)
    }

    /// How the agent is. Whether load balancers should use the node has no part in it.
    pub fn condition(&self) -> Condition {
        match (self.is_healthy(), self.devices.are_attached) {
            (false, _) => Condition::Unhealthy,
            (true, false) => Condition::Starting,
            (true, true) => Condition::Ready,
        }
    }

    fn is_bearable(&self, failing_for: Option<Duration>) -> bool {
        failing_for.is_none_or(|time| time <= self.health_timeout)
    }

    /// When any family was last brought up to date.
    pub fn last_updated(&self) -> Option<SystemTime> {
        self.families
            .iter()
            .filter_map(|family| family.last_updated)
            .max()
    }
}
