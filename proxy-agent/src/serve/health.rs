//! `/healthz` for load balancers, `/livez` for the kubelet, as kube-proxy has them
//! (`pkg/proxy/healthcheck/proxy_health.go`).

use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::{ReportClient, not_found};
use crate::metrics::Metrics;
use crate::model::object::Family;
use crate::status::{Detail, Report};

pub(super) fn router(reports: ReportClient, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", any(healthz))
        .route("/livez", any(livez))
        .fallback(not_found)
        .with_state((reports, metrics))
}

/// 200 while this node should get traffic from a load balancer.
async fn healthz(State((reports, metrics)): State<(ReportClient, Metrics)>) -> Response {
    let response = match reports.request(Detail::Health).await {
        Ok(report) => answer(&report, Some(report.node_eligible)),
        Err(late) => late,
    };
    metrics
        .kube_proxy
        .answered_healthz(response.status().as_u16());
    response
}

/// 200 while there is no reason to restart the agent.
async fn livez(State((reports, metrics)): State<(ReportClient, Metrics)>) -> Response {
    let response = match reports.request(Detail::Health).await {
        Ok(report) => answer(&report, None),
        Err(late) => late,
    };
    metrics
        .kube_proxy
        .answered_livez(response.status().as_u16());
    response
}

/// The body; the order of the fields is that of kube-proxy's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    #[serde(rename = "IPv4")]
    v4: FamilyStatus,
    #[serde(rename = "IPv6")]
    v6: FamilyStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyStatus {
    last_updated: String,
    healthy: bool,
}

/// The answer where it depends on whether the node is eligible, and where not.
fn answer(report: &Report, node_eligible: Option<bool>) -> Response {
    let is_good = report.is_healthy() && node_eligible.unwrap_or(true);
    let now = SystemTime::now();
    let family = |family| {
        let found = report.families.iter().find(|found| found.family == family);
        FamilyStatus {
            last_updated: time(found.and_then(|found| found.last_updated)),
            healthy: found.is_none_or(|found| report.is_family_healthy(found)),
        }
    };
    let body = Body {
        // Clients of old want a recent time where all is well.
        last_updated: time(if is_good {
            Some(now)
        } else {
            report.last_updated()
        }),
        current_time: time(Some(now)),
        node_eligible,
        healthy: report.is_healthy(),
        status: Status {
            v4: family(Family::V4),
            v6: family(Family::V6),
        },
    };
    let code = if is_good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    match serde_json::to_string(&body) {
        Ok(body) => (code, headers, body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// RFC 3339; the zero time of Go where there is none, as kube-proxy's clients know.
fn time(time: Option<SystemTime>) -> String {
    time.and_then(|time| Timestamp::try_from(time).ok())
        .map_or_else(
            || "0001-01-01T00:00:00Z".to_owned(),
            |time| time.to_string(),
        )
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use axum::body::to_bytes;
    use axum::http::Request;
    use serde_json::{Value, json};
    use tokio::sync::watch;
    use tower::ServiceExt as _;

    use super::*;
    use crate::status::{Condition, FamilyReport};

    pub(crate) fn report(pending: Option<u64>, node_eligible: bool) -> Report {
        let family = |family, pending_for| FamilyReport {
            family,
            last_updated: Some(SystemTime::UNIX_EPOCH),
            pending_for,
        };
        Report {
            families: vec![
                family(Family::V4, pending.map(Duration::from_secs)),
                family(Family::V6, None),
            ],
            node_eligible,
            ports: 1,
            ..Report::at_start(Duration::from_mins(1))
        }
    }

    async fn body_of(response: Response) -> (u16, Value) {
        let code = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
        (code, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn the_body_is_kube_proxys() {
        let report = report(None, true);
        let (code, mut body) = body_of(answer(&report, Some(true))).await;
        assert_eq!(code, 200);
        assert!(body["currentTime"].as_str().unwrap().ends_with('Z'));
        assert_eq!(body["lastUpdated"], body["currentTime"]);
        body["currentTime"] = json!("now");
        body["lastUpdated"] = json!("now");
        let epoch = "1970-01-01T00:00:00Z";
        let family = json!({"lastUpdated": epoch, "healthy": true});
        let expected = json!({
            "lastUpdated": "now", "currentTime": "now", "nodeEligible": true,
            "healthy": true, "status": {"IPv4": family, "IPv6": family},
        });
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn a_node_that_is_going_away_is_nothing_for_balancers_and_alive() {
        let report = report(None, false);
        let (code, body) = body_of(answer(&report, Some(false))).await;
        assert_eq!((code, &body["nodeEligible"]), (503, &json!(false)));
        assert_eq!(body["healthy"], true);
        assert_eq!(body["lastUpdated"], "1970-01-01T00:00:00Z");
        let (code, body) = body_of(answer(&report, None)).await;
        assert_eq!(code, 200);
        assert!(!body.as_object().unwrap().contains_key("nodeEligible"));
    }

    #[tokio::test]
    async fn other_paths_are_not_found_as_gos_server_has_it() {
        let (reports, _requests) = tokio::sync::mpsc::channel(1);
        let router = router(
            ReportClient::new(reports, watch::channel(false).1),
            Metrics::default(),
        );
        let request = Request::get("/other").body(String::new());
        let response = router.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 404);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        assert_eq!(body, "404 page not found\n");
    }

    #[tokio::test]
    async fn a_change_that_waits_for_more_than_a_minute_makes_unhealthy() {
        assert!(report(Some(60), true).is_healthy());
        let late = report(Some(61), true);
        assert!(!late.is_healthy());
        let (code, body) = body_of(answer(&late, None)).await;
        assert_eq!(code, 503);
        assert_eq!(body["status"]["IPv4"]["healthy"], false);
        assert_eq!(body["status"]["IPv6"]["healthy"], true);
    }

    #[tokio::test]
    async fn a_device_without_programs_for_more_than_a_minute_makes_unhealthy() {
        let mut report = report(None, true);
        report.devices.failing_for = Some(Duration::from_mins(1));
        assert!(report.is_healthy());
        report.devices.failing_for = Some(Duration::from_secs(61));
        let (code, body) = body_of(answer(&report, None)).await;
        assert_eq!((code, &body["healthy"]), (503, &json!(false)));
        // It is of no family.
        assert_eq!(body["status"]["IPv4"]["healthy"], true);
    }

    #[test]
    fn ready_is_who_has_attached_and_is_healthy() {
        let mut report = report(None, false);
        assert_eq!(report.condition(), Condition::Starting);
        report.devices.are_attached = true;
        assert_eq!(report.condition(), Condition::Ready);
        report.devices.failing_for = Some(Duration::from_secs(61));
        assert_eq!(report.condition(), Condition::Unhealthy);
    }

    #[test]
    fn no_time_yet_is_gos_zero_time() {
        assert_eq!(time(None), "0001-01-01T00:00:00Z");
    }
}
