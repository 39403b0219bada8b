//! Requests, counted and measured by the names that client-go has for it
//! (`component-base/metrics/prometheus/restclient/metrics.go`).

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, Uri};
use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};
use tower::Service;

/// client-go's.
const BUCKETS: [f64; 12] = [
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];

/// The code of a request without an answer.
const NO_ANSWER: &str = "<error>";

/// The metrics of requests to the API server; clones share them.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    contact: Arc<Mutex<Option<ServerContact>>>,
}

/// How the API server was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerContact {
    /// Its address.
    pub host: String,
    /// When it last answered.
    pub last_answer: Option<SystemTime>,
    /// Since when it has not answered, or has refused.
    pub failing_since: Option<SystemTime>,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let requests = Opts::new(
            "rest_client_requests_total",
            "Requests to the API server, by status code, method, and host",
        );
        let duration = HistogramOpts::new(
            "rest_client_request_duration_seconds",
            "Time until the API server answered a request that is no watch, by method and host",
        );
        let duration = duration.buckets(BUCKETS.to_vec());
        let well_formed = "constants that are well formed";
        Self {
            requests: IntCounterVec::new(requests, &["code", "method", "host"]).expect(well_formed),
            duration: HistogramVec::new(duration, &["verb", "host"]).expect(well_formed),
            contact: Arc::default(),
        }
    }
}

impl RequestMetrics {
    /// What a registry takes.
    pub(crate) fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [
            Box::new(self.requests.clone()),
            Box::new(self.duration.clone()),
        ]
    }

    /// A request ended with a status, or without an answer.
    pub fn ended(&self, method: &str, host: &str, status: Option<u16>) {
        let code = status.map_or_else(|| NO_ANSWER.to_owned(), |status| status.to_string());
        self.requests
            .with_label_values(&[&*code, method, host])
            .inc();
        self.note_contact(host, status);
    }

    fn note_contact(&self, host: &str, status: Option<u16>) {
        let now = SystemTime::now();
        let mut contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        let contact = contact.get_or_insert_default();
        host.clone_into(&mut contact.host);
        if status.is_some() {
            contact.last_answer = Some(now);
        }
        // What asks wrongly, or for what there is not, is no fault of the server.
        let is_refused = matches!(status, None | Some(401 | 403 | 429 | 500..));
        if is_refused {
            contact.failing_since.get_or_insert(now);
        } else {
            contact.failing_since = None;
        }
    }

    /// How the server was; none where it was not asked.
    pub fn contact(&self) -> Option<ServerContact> {
        let contact = self.contact.lock().unwrap_or_else(PoisonError::into_inner);
        contact.clone()
    }

    /// A request that is no watch took so long.
    pub fn took(&self, method: &str, host: &str, time: Duration) {
        self.duration
            .with_label_values(&[method, host])
            .observe(time.as_secs_f64());
    }
}

/// A client of HTTP that counts.
#[derive(Clone)]
pub(super) struct Measured<S> {
    client: S,
    metrics: RequestMetrics,
}

impl<S> Measured<S> {
    /// The innermost layer: it sees what is sent.
    pub(super) fn new(client: S, metrics: RequestMetrics) -> Self {
        Self { client, metrics }
    }
}

impl<S, B, A> Service<Request<B>> for Measured<S>
where
    S: Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let metrics = self.metrics.clone();
        let method = request.method().to_string();
        let host = host(request.uri());
        let is_watch = is_watch(request.uri());
        let began = Instant::now();
        let answer = self.client.call(request);
        async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
            metrics.ended(&method, &host, status);
            if !is_watch {
                metrics.took(&method, &host, began.elapsed());
            }
            answer
        }
        .boxed()
    }
}

/// Host and port, as in the URI.
fn host(uri: &Uri) -> String {
    uri.authority()
        .map_or_else(String::new, |authority| authority.as_str().to_owned())
}

fn is_watch(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    query.split('&').any(|parameter| parameter == "watch=true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_fails_while_it_does_not_answer_or_refuses() {
        let metrics = RequestMetrics::default();
        assert_eq!(metrics.contact(), None);
        let is_failing = |status| {
            metrics.ended("GET", "192.0.2.1:6443", status);
            metrics.contact().unwrap().failing_since.is_some()
        };
        assert!(!is_failing(Some(200)));
        assert!(is_failing(None) && is_failing(Some(403)) && is_failing(Some(503)));
        // A list that is too old is asked for anew.
        assert!(!is_failing(Some(410)));
    }
}
