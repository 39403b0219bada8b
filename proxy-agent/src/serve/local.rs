//! The agent's own socket: for the kubelet's probes, and for operators on this machine.
//!
//! The health port may be another proxy's, such as that of the kube-proxy that is to be
//! replaced; this Unix socket can only be this agent's. Whoever may open it may ask.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::{error, info};

use super::listener::HEADER_TIMEOUT;
use super::{ACCEPT_PAUSE, ReportClient, not_found};
use crate::model::object::Protocol;
use crate::status::{Condition, Detail, StatusDocument};

/// The name of the agent's [`Condition`].
pub(super) const CONDITION: &str = "/condition";
/// A [`StatusDocument`].
pub(super) const STATUS: &str = "/status";
/// Makes an audit; an [`AuditReport`](crate::status::AuditReport).
pub(super) const AUDIT: &str = "/audit";
/// What should be served at a destination; a [`DesiredReport`](crate::status::DesiredReport).
pub(super) const DESIRED: &str = "/desired";

/// Answers at `socket`, for as long as the agent runs; for its condition with what `before` says
/// while its loop does not run yet.
pub async fn local(
    socket: PathBuf,
    before: watch::Receiver<Option<Condition>>,
    reports: ReportClient,
) {
    let listener = match listen(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            error!(socket = %socket.display(), "cannot answer probes: {error}");
            return;
        }
    };
    info!(what = "probes", socket = %socket.display(), "listening");
    let router = router(Agent { before, reports });
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, router.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Whom to ask.
#[derive(Clone)]
struct Agent {
    /// Its condition before its loop runs.
    before: watch::Receiver<Option<Condition>>,
    reports: ReportClient,
}

fn router(agent: Agent) -> Router {
    Router::new()
        .route(CONDITION, get(condition))
        .route(STATUS, get(status))
        .route(AUDIT, post(audit))
        .route(&format!("{DESIRED}/{{protocol}}/{{at}}"), get(desired))
        .fallback(not_found)
        .with_state(agent)
}

/// How it ends is the client's concern.
async fn serve(stream: UnixStream, router: Router) {
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

/// Listens at `socket`, in the place of an agent that was killed.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

async fn condition(State(agent): State<Agent>) -> &'static str {
    if let Some(before) = *agent.before.borrow() {
        return before.name();
    }
    let report = agent.reports.request(Detail::Health).await;
    report
        .map_or(Condition::Unhealthy, |report| report.condition())
        .name()
}

async fn status(State(Agent { reports, .. }): State<Agent>) -> Response {
    match reports.request(Detail::Status).await {
        Ok(report) => match &report.details {
            Some(details) => json(&StatusDocument::new(&report, details)),
            None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        },
        Err(late) => late,
    }
}

async fn audit(State(Agent { reports, .. }): State<Agent>) -> Response {
    match reports.request(Detail::Audit).await {
        Ok(report) => json(&report.audit),
        Err(late) => late,
    }
}

async fn desired(
    State(Agent { reports, .. }): State<Agent>,
    UrlPath((protocol, at)): UrlPath<(String, String)>,
) -> Response {
    let protocol = Protocol::ALL
        .into_iter()
        .find(|it| it.to_string() == protocol);
    let (Some(protocol), Ok(at)) = (protocol, at.parse()) else {
        return not_found().await;
    };
    match reports.request(Detail::Desired(at, protocol)).await {
        Ok(report) => json(&report.desired),
        Err(late) => late,
    }
}

fn json(document: &impl Serialize) -> Response {
    match serde_json::to_string(document) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
