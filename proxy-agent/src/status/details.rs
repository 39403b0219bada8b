//! What operators want to know besides.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::source::kube::ServerContact;

/// What operators want to know.
#[derive(Clone, Debug)]
pub struct Details {
    /// When the agent was started.
    pub started: SystemTime,
    /// Since when the maps have held all that they should, whenever changes were programmed.
    pub in_sync_since: Option<SystemTime>,
    /// Services in the kernel.
    pub services: usize,
    /// Endpoints in the kernel.
    pub endpoints: usize,
    /// The edge devices.
    pub devices: Vec<DeviceReport>,
    /// The socket path.
    pub socket_path: SocketPathReport,
    /// What was refused or could not be done.
    pub refusals: Vec<Refusal>,
    /// How the API server was; none where it is not asked.
    pub api_server: Option<ServerContact>,
}

/// Who is behind an edge device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceRole {
    /// A Pod of this node.
    Pod,
    /// The rest of the world.
    Outside,
}

/// How an edge device is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// Who is behind it.
    pub role: DeviceRole,
    /// By what programs are attached to its ingress and egress: `tcx` or `clsact`; none where the
    /// kernel refuses.
    pub attached: [Option<String>; 2],
    /// Whether it has XDP.
    pub xdp: bool,
    /// Why nothing better is in use.
    pub why: Option<String>,
}

/// How sockets are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketPathReport {
    /// Below which cgroup, if they are.
    pub cgroup: Option<PathBuf>,
    /// Whose: the setting `socketPath`.
    pub mode: &'static str,
    /// Why they are not.
    pub why: Option<String>,
}

/// Something that was refused or could not be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub time: SystemTime,
    /// The object that it is about.
    pub object: String,
    /// Why, in one word.
    pub reason: &'static str,
    /// The same for people.
    pub note: String,
}

/// The last refusals.
#[derive(Debug, Default)]
pub struct Refusals(VecDeque<Refusal>);

impl Refusals {
    /// How many are kept: what fits on a screen beside all else.
    const KEPT: usize = 10;

    /// Adds one; the oldest one may have to go.
    pub fn add(&mut self, refusal: Refusal) {
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(refusal);
    }

    /// All that are kept, the newest first.
    pub fn newest_first(&self) -> Vec<Refusal> {
        self.0.iter().rev().cloned().collect()
    }
}

/// What an audit has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditReport {
    /// Whether the maps could be compared; if not, why not: changes are on their way, or the maps
    /// cannot be read.
    pub not_done: Option<String>,
    /// How many elements differed.
    pub count: usize,
    /// The first of them.
    pub differences: Vec<Difference>,
}

impl AuditReport {
    /// How many differences are told one by one.
    pub const TOLD: usize = 1000;

    /// That of an audit that was not made.
    pub fn not_done(why: impl Into<String>) -> Self {
        Self {
            not_done: Some(why.into()),
            count: 0,
            differences: Vec::new(),
        }
    }
}

/// An element that was not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The element.
    pub element: String,
    /// What was done: `written` or `removed`.
    pub repair: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusals_are_kept() {
        let mut refusals = Refusals::default();
        for number in 0..25 {
            refusals.add(Refusal {
                time: SystemTime::UNIX_EPOCH,
                object: format!("default/s{number}"),
                reason: "MapFull",
                note: String::new(),
            });
        }
        let kept = refusals.newest_first();
        assert_eq!(kept.len(), 10);
        assert_eq!(kept[0].object, "default/s24");
        assert_eq!(kept[9].object, "default/s15");
    }
}
