//! The status as a document, which the agent hands out and `proxy-agent status` shows.

use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Details, DeviceReport, Report};

/// The status of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDocument {
    /// `proxy-agent/v1`
    pub api_version: String,
    /// `Status`
    pub kind: String,
    /// `starting`, `ready` or `unhealthy`.
    pub condition: String,
    /// Version of the agent.
    pub version: String,
    /// When it was started, as all times in RFC 3339.
    pub started: Option<String>,
    /// How many seconds ago that was.
    pub uptime_seconds: u64,
    /// Whether load balancers should use the node.
    pub node_eligible: bool,
    /// How the maps agree with the objects.
    pub sync: Sync,
    /// Services in the kernel.
    pub services: usize,
    /// Ports of them, of each IP family one.
    pub service_ports: usize,
    /// Endpoints of these.
    pub endpoints: usize,
    /// How full the maps are; those of the data path as they were last counted.
    pub maps: Vec<Map>,
    /// The edge devices.
    pub devices: Vec<DeviceReport>,
    /// The socket path.
    pub socket_path: SocketPath,
    /// How the API server was; none where objects come from files.
    pub api_server: Option<Server>,
    /// What was refused or could not be done, the newest first.
    pub refusals: Vec<Refused>,
}

/// How the maps agree with the objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    /// Whether they hold all that they should.
    pub in_sync: bool,
    /// Since when they have, whenever changes were programmed.
    pub since: Option<String>,
    /// When they were last brought up to date.
    pub last: Option<String>,
    /// For how long a change has been waiting.
    pub pending_seconds: Option<u64>,
    /// How long a change may wait.
    pub timeout_seconds: u64,
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Its name.
    pub name: String,
    /// Elements in use.
    pub used: u64,
    /// Elements that there are.
    pub capacity: u64,
}

/// How sockets are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketPath {
    /// Below which cgroup, if they are.
    pub cgroup: Option<String>,
    /// Whose: the setting `socketPath`.
    pub mode: String,
    /// Why they are not.
    pub why: Option<String>,
}

/// How the API server was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Its address.
    pub host: String,
    /// When it last answered.
    pub last_answer: Option<String>,
    /// Since when it has not answered, or has refused.
    pub failing_since: Option<String>,
}

/// Something that was refused or could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// When.
    pub time: Option<String>,
    /// The object that it is about.
    pub object: String,
    /// Why, in one word, as in the Event about it.
    pub reason: String,
    /// The same for people.
    pub note: String,
}

impl StatusDocument {
    /// The document of a report with its details.
    pub fn new(report: &Report, details: &Details) -> Self {
        let pending = report.families.iter().filter_map(|it| it.pending_for).max();
        let uptime = details.started.elapsed().unwrap_or_default();
        Self {
            api_version: "proxy-agent/v1".to_owned(),
            kind: "Status".to_owned(),
            condition: report.condition().name().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: time(Some(details.started)),
            uptime_seconds: uptime.as_secs(),
            node_eligible: report.node_eligible,
            sync: Sync {
                in_sync: details.in_sync_since.is_some(),
                since: time(details.in_sync_since),
                last: time(report.last_updated()),
                pending_seconds: pending.map(|it| it.as_secs()),
                timeout_seconds: report.health_timeout.as_secs(),
            },
            services: details.services,
            service_ports: report.ports,
            endpoints: details.endpoints,
            maps: maps(report),
            devices: details.devices.clone(),
            socket_path: socket_path(details),
            api_server: details.api_server.as_ref().map(|server| Server {
                host: server.host.clone(),
                last_answer: time(server.last_answer),
                failing_since: time(server.failing_since),
            }),
            refusals: refusals(details),
        }
    }
}

fn maps(report: &Report) -> Vec<Map> {
    let map = |name: &str, used, capacity| Map {
        name: name.to_owned(),
        used,
        capacity,
    };
    let written = report.maps.iter();
    let written = written.map(|it| map(it.map, it.used, it.capacity));
    let filled = report.records.tables.iter();
    let filled = filled.map(|(name, used, capacity)| map(name, *used, *capacity));
    written.chain(filled).collect()
}

fn socket_path(details: &Details) -> SocketPath {
    let path = &details.socket_path;
    SocketPath {
        cgroup: path.cgroup.as_ref().map(|it| it.display().to_string()),
        mode: path.mode.to_owned(),
        why: path.why.clone(),
    }
}

fn refusals(details: &Details) -> Vec<Refused> {
    let refusals = details.refusals.iter().map(|it| Refused {
        time: time(Some(it.time)),
        object: it.object.clone(),
        reason: it.reason.to_owned(),
        note: it.note.clone(),
    });
    refusals.collect()
}

/// RFC 3339, in whole seconds.
fn time(time: Option<SystemTime>) -> Option<String> {
    let time = Timestamp::try_from(time?).ok()?;
    let seconds = Timestamp::from_second(time.as_second()).ok()?;
    Some(seconds.to_string())
}
