//! Requests for a status report.

use proxy_ebpf::layout::Counter;
use tokio::sync::{mpsc, watch};

use super::interfaces::Interfaces;
use super::sockets::SocketPathController;
use super::traffic;
use crate::agent::Agent;
use crate::maps::{KernelMaps, RecordUsage};
use crate::serve::ReportRequest;
use crate::status::{
    CounterValue, Detail, Details, DeviceReport, DevicesReport, Report, SocketPathReport,
};

/// What is attached where.
pub(super) struct Attachments {
    summary: DevicesReport,
    devices: Vec<DeviceReport>,
    socket_path: SocketPathReport,
}

impl Attachments {
    pub(super) fn of(interfaces: &Interfaces, sockets: &SocketPathController) -> Self {
        Self {
            summary: interfaces.report(),
            devices: interfaces.device_reports(),
            socket_path: sockets.report(),
        }
    }
}

/// The requests, and what the agent itself does not know.
pub(super) struct Reports {
    requests: mpsc::Receiver<ReportRequest>,
    records: watch::Receiver<RecordUsage>,
}

impl Reports {
    pub(super) fn new(
        requests: mpsc::Receiver<ReportRequest>,
        records: watch::Receiver<RecordUsage>,
    ) -> Self {
        Self { requests, records }
    }

    /// A request. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<ReportRequest> {
        self.requests.recv().await
    }

    /// Answers a request.
    pub(super) fn answer(
        &self,
        query: ReportRequest,
        agent: &mut Agent<KernelMaps>,
        attachments: &Attachments,
    ) {
        let report = self.report(query.detail, agent, attachments);
        // Who asked may have gone.
        let _ = query.answer.send(report);
    }

    fn report(
        &self,
        detail: Detail,
        agent: &mut Agent<KernelMaps>,
        attachments: &Attachments,
    ) -> Report {
        let desired = match detail {
            Detail::Desired(at, protocol) => Some(agent.desired_at(at, protocol)),
            _ => None,
        };
        let audit = (detail == Detail::Audit).then(|| agent.audit());
        let counters = Counter::ALL.into_iter().filter_map(|(counter, name)| {
            Some(CounterValue {
                counter,
                name,
                value: agent.maps().counter(counter).ok()?,
            })
        });
        let counters = counters.collect();
        let mut report = agent.report(attachments.summary, counters);
        report.records = self.records.borrow().clone();
        report.audit = audit;
        report.desired = desired;
        match detail {
            Detail::Metrics => report.traffic = traffic::read(agent),
            Detail::Status => {
                report.details = Some(Details {
                    devices: attachments.devices.clone(),
                    socket_path: attachments.socket_path.clone(),
                    ..agent.details()
                });
            }
            Detail::Health | Detail::Audit | Detail::Desired(..) => {}
        }
        report
    }
}
