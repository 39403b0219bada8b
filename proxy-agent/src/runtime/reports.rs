//! Requests for a status report.

use proxy_ebpf::layout::Counter;
use tokio::sync::{mpsc, watch};

use super::interfaces::Interfaces;
use super::sockets::SocketPathController;
use super::traffic;
use crate::agent::Agent;
use crate::maps::{KernelMaps, RecordUsage};
use crate::serve::ReportRequest;
use crate::status::{CounterValue, Detail, Details, Report};

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
        interfaces: &Interfaces,
        sockets: &SocketPathController,
    ) {
        let report = self.report(query.detail, agent, interfaces, sockets);
        // Who asked may have gone.
        let _ = query.answer.send(report);
    }

    fn report(
        &self,
        detail: Detail,
        agent: &mut Agent<KernelMaps>,
        interfaces: &Interfaces,
        sockets: &SocketPathController,
    ) -> Report {
        let audit = (detail == Detail::Audit).then(|| agent.audit());
        let counters = Counter::ALL.into_iter().filter_map(|(counter, name)| {
            Some(CounterValue {
                counter,
                name,
                value: agent.maps().counter(counter).ok()?,
            })
        });
        let counters = counters.collect();
        let mut report = agent.report(interfaces.report(), counters);
        report.records = self.records.borrow().clone();
        report.audit = audit;
        match detail {
            Detail::Metrics => report.traffic = traffic::read(agent),
            Detail::Status => {
                report.details = Some(Details {
                    devices: interfaces.device_reports(),
                    socket_path: sockets.report(),
                    ..agent.details()
                });
            }
            Detail::Health | Detail::Audit => {}
        }
        report
    }
}
