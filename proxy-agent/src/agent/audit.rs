//! Whether the maps hold what was planned: reads them back, and mends what differs.

use tracing::warn;

use super::Agent;
use crate::maps::{Maps, Readable};
use crate::plan::{Plan, Write};
use crate::status::{AuditReport, Difference};

impl<M: Maps> Agent<M> {
    /// Reads the maps back, and mends what somebody else has changed in them, but for what
    /// is to be written anyway; what it has found.
    pub fn audit(&mut self) -> AuditReport
    where
        M: Readable,
    {
        if !self.is_programmed {
            return AuditReport::not_done("nothing is programmed yet");
        }
        if self.waiting_since.is_some() {
            return AuditReport::not_done("changes are on their way");
        }
        let read = self.writer.maps_mut().read().and_then(|content| {
            let filter = self.writer.maps_mut().reconcile_filter(&content)?;
            Ok((content, filter))
        });
        let (content, filter) = match read {
            Ok(read) => read,
            Err(error) => {
                let error = anyhow::Error::from(error);
                warn!("cannot audit the maps: {error:#}");
                return AuditReport::not_done(format!("{error:#}"));
            }
        };
        if filter.set > 0 {
            warn!(
                bits = filter.set,
                "bits were missing in the packet filter and were set again"
            );
        }
        let mut repairs = self.planner.audit(&content);
        repairs.extend(self.node.audit(&content));
        repairs.extend(self.cluster_ips.audit(&content.cluster_ips));
        repairs.retain(|write| !self.writer.is_pending(&write.element()));
        if let Some(first) = repairs.first() {
            warn!(
                elements = repairs.len(),
                ?first,
                "map elements differed from what was written and were repaired (does another \
                 program write to this agent's maps?)"
            );
        }
        self.progress
            .metrics()
            .own
            .reconciled_elements(repairs.len());
        let report = audit_report(filter.set, &repairs);
        for write in repairs {
            self.writer.write(write);
        }
        self.finish_plan(Plan::default());
        report
    }
}

/// What was not as it should be: bits of the packet filter, and the elements of these writes.
fn audit_report(filter_bits: usize, repairs: &[Write]) -> AuditReport {
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
