//! What the agent says of itself: health for load balancers and metrics for Prometheus over
//! HTTP, its condition for probes and its status for operators over a Unix socket.
//!
//! A request asks the agent's own loop for a [`Report`] and answers with that. So
//! what is said is never stale, and an agent whose loop hangs is not healthy: it
//! does not answer in time.

mod health;
mod listener;
mod local;
mod local_client;
mod metrics;
mod service_health;

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info};

pub use local::local;
pub use local_client::{LocalError, audit, condition, desired, status};
pub use service_health::{ListenError, ServiceHealth};

use crate::metrics::Metrics;
use crate::status::{Detail, Report};

/// How long the loop may take to report; a probe's own limit is mostly shorter.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a listener that cannot be had is tried again. Where the kube-proxy that had the
/// port has gone, load balancers are not to see the node fail: they ask every second or so.
const LISTEN_INTERVAL: Duration = Duration::from_millis(100);

/// The pause after a failed accept, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request for a report.
pub struct ReportRequest {
    /// What it is to have.
    pub detail: Detail,
    /// Where it is awaited.
    pub answer: oneshot::Sender<Report>,
}

/// Where requests go to ask the agent's loop.
#[derive(Clone)]
pub struct ReportClient {
    requests: mpsc::Sender<ReportRequest>,
    /// Whether the next agent answers already.
    is_succeeded: watch::Receiver<bool>,
}

impl ReportClient {
    /// Asks by a channel that the agent's loop reads, and knows when new connections are to go
    /// to the next agent.
    pub fn new(requests: mpsc::Sender<ReportRequest>, is_succeeded: watch::Receiver<bool>) -> Self {
        Self {
            requests,
            is_succeeded,
        }
    }

    /// The agent's report, or the answer to a request that cannot have one.
    async fn request(&self, detail: Detail) -> Result<Report, Response> {
        let late = || {
            let text = "the agent does not report in time\n";
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        };
        let (answer, report) = oneshot::channel();
        let query = ReportRequest { detail, answer };
        self.requests.send(query).await.map_err(|_| late())?;
        match tokio::time::timeout(REPORT_TIMEOUT, report).await {
            Ok(Ok(report)) => Ok(report),
            _ => Err(late()),
        }
    }
}

/// The answer to a path that there is none of, as Go's `http.NotFound` has it.
async fn not_found() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// Serves `/healthz` and `/livez` on `address`, for as long as the agent runs; `until_listening`
/// is dropped as soon as it listens.
pub async fn health(
    address: SocketAddr,
    reports: ReportClient,
    metrics: Metrics,
    until_listening: impl Send,
) {
    let listener = listen("health", address).await;
    drop(until_listening);
    let is_succeeded = reports.is_succeeded.clone();
    listener::serve(listener, health::router(reports, metrics), is_succeeded).await;
}

/// Serves `/metrics`, `/configz`, `/healthz` and `/proxyMode` on `address`, for as long
/// as the agent runs.
pub async fn metrics(
    address: SocketAddr,
    reports: ReportClient,
    metrics: Metrics,
    configz: watch::Receiver<Value>,
) {
    let listener = listen("metrics", address).await;
    let is_succeeded = reports.is_succeeded.clone();
    let router = metrics::router(reports, metrics, configz);
    listener::serve(listener, router, is_succeeded).await;
}

/// An address that cannot be had is an error in the log, for the data path matters more.
/// It is tried again: a kube-proxy before may still have it.
async fn listen(what: &'static str, address: SocketAddr) -> TcpListener {
    let mut is_logged = false;
    loop {
        match listener::listen(address) {
            Ok(listener) => {
                info!(what, %address, "listening");
                return listener;
            }
            Err(error) if !is_logged => {
                is_logged = true;
                error!(what, %address, "cannot listen (is the port in use?), will retry: {error}");
            }
            Err(_) => {}
        }
        tokio::time::sleep(LISTEN_INTERVAL).await;
    }
}
