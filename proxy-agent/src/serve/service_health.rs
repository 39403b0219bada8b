//! `spec.healthCheckNodePort`: a load balancer asks each node whether it has endpoints
//! of a Service (kube-proxy's `pkg/proxy/healthcheck/service_health.go`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;
use tokio::task::JoinHandle;
use tracing::{debug, info};

use super::{ReportClient, listener};
use crate::model::object::Family;
use crate::model::{HealthCheck, ObjectName};
use crate::status::Detail;

/// The servers of all Services' health checks: one for each address.
pub struct ServiceHealth {
    reports: ReportClient,
    addresses: BTreeSet<IpAddr>,
    services: HashMap<ObjectName, Service>,
}

/// A health check that cannot be asked at one address.
#[derive(Debug, thiserror::Error)]
#[error("cannot answer the health check at {address}")]
pub struct ListenError {
    /// The Service.
    pub service: ObjectName,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl ServiceHealth {
    /// No servers yet; each will ask how the agent is.
    pub fn new(reports: ReportClient) -> Self {
        Self {
            reports,
            addresses: BTreeSet::new(),
            services: HashMap::new(),
        }
    }

    /// Opens and closes listeners, so that these health checks are answered on these
    /// addresses of the node. Returns where that does not work, once until it does.
    pub async fn follow(
        &mut self,
        changes: Vec<(ObjectName, Option<HealthCheck>)>,
        addresses: &BTreeSet<IpAddr>,
    ) -> Vec<ListenError> {
        let mut concerned = BTreeSet::new();
        for (name, check) in changes {
            self.services.entry(name.clone()).or_default().check = check;
            concerned.insert(name);
        }
        if self.addresses != *addresses {
            self.addresses.clone_from(addresses);
            concerned.extend(self.services.keys().cloned());
        }
        self.settle(concerned).await
    }

    /// Tries again what did not work.
    pub async fn retry(&mut self) -> Vec<ListenError> {
        let failed = self.services.iter();
        let failed = failed.filter(|(_, service)| !service.failed.is_empty());
        let concerned = failed.map(|(name, _)| name.clone()).collect();
        self.settle(concerned).await
    }

    async fn settle(&mut self, concerned: BTreeSet<ObjectName>) -> Vec<ListenError> {
        // Before any is opened: a port can move from one Service to another.
        for name in &concerned {
            if let Some(service) = self.services.get_mut(name) {
                service.close(name, &self.addresses).await;
            }
        }
        let mut errors = Vec::new();
        for name in concerned {
            // The kernel would let two Services share it, as it does two agents.
            let servers = self.services.values().flat_map(|it| it.servers.keys());
            let taken: BTreeSet<SocketAddr> = servers.copied().collect();
            if let Some(service) = self.services.get_mut(&name) {
                errors.extend(service.open(&name, &self.addresses, &taken, &self.reports));
                if service.check.is_none() {
                    self.services.remove(&name);
                }
            }
        }
        errors
    }
}

/// The servers of one Service.
#[derive(Default)]
struct Service {
    check: Option<HealthCheck>,
    servers: HashMap<SocketAddr, Server>,
    /// Addresses that could not be had.
    failed: BTreeSet<SocketAddr>,
}

/// A server at one address.
struct Server {
    local_endpoints: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Service {
    /// Where it is answered, with the number of endpoints that is reported there.
    fn wanted(&self, addresses: &BTreeSet<IpAddr>) -> BTreeMap<SocketAddr, usize> {
        let Some(check) = &self.check else {
            return BTreeMap::new();
        };
        let is_of_all = |address: &&IpAddr| {
            let of_family = |all: &&IpAddr| Family::of(**all) == Family::of(**address);
            let mut all = addresses.iter().filter(|it| it.is_unspecified());
            all.any(|all| of_family(&all))
        };
        let of_balancer = check.balancer_ips.iter().filter(|it| !is_of_all(it));
        let at = |address: &IpAddr| {
            let count = check.local_endpoints.get(&Family::of(*address))?;
            Some((SocketAddr::new(*address, check.port), *count))
        };
        addresses.iter().chain(of_balancer).filter_map(at).collect()
    }

    async fn close(&mut self, name: &ObjectName, addresses: &BTreeSet<IpAddr>) {
        let wanted = self.wanted(addresses);
        self.failed.retain(|address| wanted.contains_key(address));
        let unwanted = self
            .servers
            .extract_if(|address, _| !wanted.contains_key(address));
        for (address, server) in unwanted {
            server.task.abort();
            // Only when it has ended is its port free; that it was aborted is no news.
            let _ = server.task.await;
            debug!(service = %name, %address, "health check closed");
        }
    }

    fn open(
        &mut self,
        name: &ObjectName,
        addresses: &BTreeSet<IpAddr>,
        taken: &BTreeSet<SocketAddr>,
        reports: &ReportClient,
    ) -> Vec<ListenError> {
        let mut errors = Vec::new();
        for (address, count) in self.wanted(addresses) {
            if let Some(server) = self.servers.get(&address) {
                server.local_endpoints.store(count, Ordering::Relaxed);
                continue;
            }
            let listener = if taken.contains(&address) {
                Err(io::ErrorKind::AddrInUse.into())
            } else {
                listener::listen_in_family(address)
            };
            match listener {
                Ok(listener) => {
                    let local_endpoints = Arc::new(AtomicUsize::new(count));
                    let router = router(Answers {
                        service: name.clone(),
                        local_endpoints: Arc::clone(&local_endpoints),
                        reports: reports.clone(),
                    });
                    let task = tokio::spawn(listener::serve(
                        listener,
                        router,
                        reports.is_succeeded.clone(),
                    ));
                    let server = Server {
                        local_endpoints,
                        task,
                    };
                    self.servers.insert(address, server);
                    self.failed.remove(&address);
                    info!(service = %name, %address, "health check opened");
                }
                Err(source) => {
                    if self.failed.insert(address) {
                        let service = name.clone();
                        errors.push(ListenError {
                            service,
                            address,
                            source,
                        });
                    }
                }
            }
        }
        errors
    }
}

/// What a server answers with.
#[derive(Clone)]
struct Answers {
    service: ObjectName,
    local_endpoints: Arc<AtomicUsize>,
    reports: ReportClient,
}

/// Any path and any method gets the same answer.
fn router(answers: Answers) -> Router {
    Router::new().fallback(respond).with_state(answers)
}

async fn respond(State(answers): State<Answers>) -> Response {
    // An agent that does not report is not healthy.
    let is_healthy = match answers.reports.request(Detail::Health).await {
        Ok(report) => report.is_healthy(),
        Err(_) => false,
    };
    let count = answers.local_endpoints.load(Ordering::Relaxed);
    answer(&answers.service, count, is_healthy)
}

#[derive(Serialize)]
struct Body<'a> {
    service: Name<'a>,
    #[serde(rename = "localEndpoints")]
    local_endpoints: usize,
    #[serde(rename = "serviceProxyHealthy")]
    is_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// The answer for a Service with so many endpoints here.
fn answer(service: &ObjectName, local_endpoints: usize, is_healthy: bool) -> Response {
    let body = Body {
        service: Name {
            namespace: &service.namespace,
            name: &service.name,
        },
        local_endpoints,
        is_healthy,
    };
    let mut text = Vec::new();
    let tabs = PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, tabs);
    if let Err(error) = body.serialize(&mut serializer) {
        return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
    }
    let code = if local_endpoints > 0 && is_healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (WEIGHT, HeaderValue::from(local_endpoints)),
    ];
    (code, headers, text).into_response()
}

/// By it a load balancer can send more traffic to nodes with more endpoints.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[test]
    fn it_is_answered_at_the_balancers_address_unless_it_is_everywhere() {
        let set = |texts: &[&str]| -> BTreeSet<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let check = HealthCheck {
            port: 32_000,
            local_endpoints: [(Family::V4, 1), (Family::V6, 2)].into(),
            balancer_ips: set(&["203.0.113.1", "2001:db8::9"]),
        };
        let service = Service {
            check: Some(check),
            ..Service::default()
        };
        let at = |addresses: &[&str]| -> Vec<_> {
            let wanted = service.wanted(&set(addresses)).into_iter();
            wanted
                .map(|(address, count)| (address.ip().to_string(), count))
                .collect()
        };
        let found = at(&["192.0.2.1", "::"]);
        let found: Vec<_> = found.iter().map(|(ip, count)| (&**ip, *count)).collect();
        assert_eq!(found, [("192.0.2.1", 1), ("203.0.113.1", 1), ("::", 2)]);
    }

    async fn text_of(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), 4096).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn headers_and_body_are_kube_proxys() {
        let response = answer(&ObjectName::new("shop", "edge"), 2, true);
        assert_eq!(response.status(), 200);
        let headers = response.headers();
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-load-balancing-endpoint-weight"], "2");
        assert_eq!(headers.len(), 3);
        assert_eq!(
            text_of(response).await,
            "{\n\t\"service\": {\n\t\t\"namespace\": \"shop\",\n\t\t\"name\": \"edge\"\n\t},\n\
             \t\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true\n}"
        );
    }

    #[tokio::test]
    async fn without_endpoints_or_health_the_balancer_is_sent_away() {
        let name = ObjectName::new("shop", "edge");
        for (count, is_healthy, code) in [(0, true, 503), (1, false, 503), (1, true, 200)] {
            let response = answer(&name, count, is_healthy);
            assert_eq!(response.status(), code, "{count} {is_healthy}");
            let expected = format!("\"serviceProxyHealthy\": {is_healthy}");
            assert!(text_of(response).await.contains(&expected));
        }
    }
}
