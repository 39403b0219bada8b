//! `/metrics` for Prometheus, and what kube-proxy has beside it.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use prometheus::TEXT_FORMAT;
use serde_json::Value;
use tokio::sync::watch;

use super::{ReportClient, not_found};
use crate::metrics::Metrics;
use crate::status::Detail;

pub(super) fn router(
    reports: ReportClient,
    metrics: Metrics,
    configz: watch::Receiver<Value>,
) -> Router {
    let configz = Router::new()
        .route("/configz", get(show))
        .with_state(configz);
    Router::new()
        .route("/metrics", get(answer))
        .route("/healthz", get(async || "ok"))
        .route("/proxyMode", get(async || "ebpf"))
        .with_state((reports, metrics))
        .merge(configz)
        .fallback(not_found)
}

/// The settings in force, as JSON.
async fn show(State(configz): State<watch::Receiver<Value>>) -> Response {
    let json = HeaderValue::from_static("application/json");
    let text = configz.borrow().to_string();
    ([(header::CONTENT_TYPE, json)], text).into_response()
}

async fn answer(State((reports, metrics)): State<(ReportClient, Metrics)>) -> Response {
    match reports.request(Detail::Metrics).await {
        Ok(report) => metrics.own.take(&report),
        Err(late) => return late,
    }
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
