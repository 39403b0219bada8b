//! What the agent reports of Services: Events, and the health checks that it opens for
//! load balancers.

use tracing::warn;

use crate::agent::Agent;
use crate::config::Source;
use crate::maps::KernelMaps;
use crate::recorder::{Event, Recorder};
use crate::serve::{ListenError, ReportClient, ServiceHealth};
use crate::source::kube::RequestMetrics;

/// Where the agent reports on Services.
pub(super) struct Notifiers {
    node_name: String,
    recorder: Recorder,
    service_health: ServiceHealth,
}

impl Notifiers {
    /// Notifiers that have recorded the start.
    pub(super) fn new(
        node_name: &str,
        source: &Source,
        requests: RequestMetrics,
        reports: ReportClient,
    ) -> Self {
        let recorder = match source {
            Source::Kube(settings) => Recorder::start(settings.clone(), node_name, requests),
            Source::Files(_) => Recorder::off(),
        };
        recorder.record(Event::starting(node_name));
        Self {
            node_name: node_name.to_owned(),
            recorder,
            service_health: ServiceHealth::new(reports),
        }
    }

    /// Sends the agent's Events; after everything that makes the agent write.
    pub(super) fn send_events(&self, agent: &mut Agent<KernelMaps>) {
        for event in agent.take_events() {
            self.recorder.record(event);
        }
    }

    /// Brings the health checks up to date.
    pub(super) async fn update_health_checks(&mut self, agent: &mut Agent<KernelMaps>) {
        let checks = agent.take_health_checks();
        let addresses = agent.health_check_addresses();
        let errors = self.service_health.follow(checks, addresses).await;
        self.report(&errors);
    }

    /// Retries what did not work.
    pub(super) async fn retry(&mut self) {
        let errors = self.service_health.retry().await;
        self.report(&errors);
    }

    fn report(&self, errors: &[ListenError]) {
        for error in errors {
            let ListenError {
                service, source, ..
            } = error;
            warn!(%service, "{error}, will retry: {source}");
            let reason = format!("{error}: {source}");
            let event = Event::no_health_check(&self.node_name, service.clone(), &reason);
            self.recorder.record(event);
        }
    }
}
