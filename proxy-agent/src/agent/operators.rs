//! What operators want to know of the agent.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::Agent;
use crate::maps::Maps;
use crate::plan::Write;
use crate::recorder::Event;
use crate::status::{AuditReport, Details, Difference, Refusal, SocketPathReport};

impl<M: Maps> Agent<M> {
    /// What operators want to know of it; the rest is known to others.
    pub fn details(&self) -> Details {
        let ports = || self.planner.ports();
        let services: BTreeSet<_> = ports().map(|(name, ..)| &name.service).collect();
        Details {
            started: self.started,
            in_sync_since: self.in_sync_since,
            services: services.len(),
            endpoints: ports().map(|(_, _, endpoints)| endpoints.len()).sum(),
            devices: Vec::new(),
            socket_path: SocketPathReport::default(),
            refusals: self.refusals.newest_first(),
            api_server: self.metrics().requests.contact(),
        }
    }

    /// Keeps what is to be reported at an object.
    pub(super) fn add_event(&mut self, event: Event) {
        self.refusals.add(Refusal {
            time: SystemTime::now(),
            object: event.regarding.to_string(),
            reason: event.reason,
            note: event.note.clone(),
        });
        self.events.push(event);
    }
}

/// What was not as it should be: bits of the packet filter, and the elements of these writes.
pub(super) fn audit_report(filter_bits: usize, repairs: &[Write]) -> AuditReport {
    let bits = (filter_bits > 0).then(|| Difference {
        element: format!("{filter_bits} bits of the packet filter"),
        repair: "written".to_owned(),
    });
    let elements = repairs.iter().map(|write| Difference {
        element: write.element().to_string(),
        repair: if write.is_removal() {
            "removed"
        } else {
            "written"
        }
        .to_owned(),
    });
    AuditReport {
        not_done: None,
        count: repairs.len() + usize::from(bits.is_some()),
        differences: bits
            .into_iter()
            .chain(elements)
            .take(AuditReport::TOLD)
            .collect(),
    }
}
