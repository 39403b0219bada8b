//! The requests: lists in pages, and watches as streams of lines.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::State;
use super::selector::Selector;
use super::store::Change;

type Parameters = BTreeMap<String, String>;

/// A kind of object and its API group's version.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    version: &'static str,
}

pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    let kind = |name, version| {
        let kind = Kind { name, version };
        get(
            move |Shared(state), Query(parameters)| async move { answer(&state, kind, &parameters) },
        )
    };
    let version = get(|Shared(state): Shared<Arc<State>>| async move { say_version(&state) });
    let router = Router::new()
        .route("/version", version)
        .route("/api/v1/services", kind("Service", "v1"))
        .route("/api/v1/nodes", kind("Node", "v1"))
        .route(
            "/apis/discovery.k8s.io/v1/endpointslices",
            kind("EndpointSlice", "discovery.k8s.io/v1"),
        )
        .with_state(state);
    let _ = axum::serve(listener, router).await;
}

/// An error as the API has them.
fn status(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": message,
    })
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response {
    (code, Json(status(code, reason, message))).into_response()
}

/// Counts the request, and refuses it while the server is down.
fn is_refused(state: &State) -> bool {
    state.requests.fetch_add(1, Ordering::SeqCst);
    state.is_down.load(Ordering::SeqCst)
}

fn unavailable() -> Response {
    failure(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        "the server is down for a test",
    )
}

fn say_version(state: &State) -> Response {
    if is_refused(state) {
        return unavailable();
    }
    let minor = if state.offer.streaming_lists {
        "33"
    } else {
        "26"
    };
    Json(json!({
        "major": "1", "minor": minor, "gitVersion": format!("v1.{minor}.0"),
        "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "",
        "compiler": "", "platform": "linux/amd64",
    }))
    .into_response()
}

fn answer(state: &Arc<State>, kind: Kind, parameters: &Parameters) -> Response {
    if is_refused(state) {
        return unavailable();
    }
    let of = |name: &str| parameters.get(name).map_or("", String::as_str);
    let selector = match Selector::parse(of("labelSelector"), of("fieldSelector")) {
        Ok(selector) => selector,
        Err(what) => return failure(StatusCode::BAD_REQUEST, "BadRequest", &what),
    };
    match of("watch") {
        "1" | "true" => watch(state, kind, selector, parameters),
        _ => list(state, kind, &selector, parameters),
    }
}

/// A page of a list. The token is the position to go on from; a real server keeps
/// the version of the first page, which needs no keeping here while tests do not
/// change objects between two pages.
fn list(state: &State, kind: Kind, selector: &Selector, parameters: &Parameters) -> Response {
    let number = |name: &str| parameters.get(name).and_then(|text| text.parse().ok());
    let store = state.store.lock().unwrap();
    let start = number("continue").unwrap_or(0usize);
    let mut items = store.list(kind.name, selector).split_off(start);
    let limit = number("limit").unwrap_or(usize::MAX);
    let mut metadata = json!({"resourceVersion": store.version().to_string()});
    if items.len() > limit {
        metadata["remainingItemCount"] = json!(items.len() - limit);
        metadata["continue"] = json!((start + limit).to_string());
        items.truncate(limit);
    }
    Json(json!({
        "kind": format!("{}List", kind.name), "apiVersion": kind.version,
        "metadata": metadata, "items": items,
    }))
    .into_response()
}

fn watch(state: &Arc<State>, kind: Kind, selector: Selector, parameters: &Parameters) -> Response {
    let begins_with_list = parameters
        .get("sendInitialEvents")
        .is_some_and(|value| value == "true");
    if begins_with_list && !state.offer.streaming_lists {
        let message = "sendInitialEvents is forbidden for watch unless the WatchList \
                       feature gate is enabled";
        return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let stream = Stream {
        state: Arc::clone(state),
        kind,
        selector,
        sender,
    };
    let timeout = parameters
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok())
        .map_or(Duration::from_mins(5), Duration::from_secs);
    let from = parameters
        .get("resourceVersion")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    tokio::spawn(async move {
        let _ = tokio::time::timeout(timeout, stream.run(from, begins_with_list)).await;
    });
    let lines = futures::stream::unfold(receiver, |mut receiver| async {
        let line: String = receiver.recv().await?;
        Some((Ok::<_, Infallible>(line), receiver))
    });
    Body::from_stream(lines).into_response()
}

/// One watch.
struct Stream {
    state: Arc<State>,
    kind: Kind,
    selector: Selector,
    sender: mpsc::UnboundedSender<String>,
}

impl Stream {
    /// Sends what happens, until the stream is cut or nobody listens.
    async fn run(self, mut version: u64, begins_with_list: bool) {
        let cuts = self.state.cuts.load(Ordering::SeqCst);
        let mut wake = self.state.wake.subscribe();
        if begins_with_list {
            version = self.send_list();
        }
        while cuts == self.state.cuts.load(Ordering::SeqCst) {
            wake.borrow_and_update();
            let (changes, now) = {
                let store = self.state.store.lock().unwrap();
                (store.since(self.kind.name, version), store.version())
            };
            let Some(changes) = changes else {
                let message = format!("too old resource version: {version} ({now})");
                self.send("ERROR", &status(StatusCode::GONE, "Expired", &message));
                return;
            };
            for change in &changes {
                self.send_change(change);
            }
            version = now;
            if wake.changed().await.is_err() || self.sender.is_closed() {
                return;
            }
        }
    }

    /// All objects, and the bookmark that ends them.
    fn send_list(&self) -> u64 {
        let store = self.state.store.lock().unwrap();
        for object in store.list(self.kind.name, &self.selector) {
            self.send("ADDED", &object);
        }
        let version = store.version();
        self.send(
            "BOOKMARK",
            &json!({
                "kind": self.kind.name, "apiVersion": self.kind.version,
                "metadata": {
                    "resourceVersion": version.to_string(),
                    "annotations": {"k8s.io/initial-events-end": "true"},
                },
            }),
        );
        version
    }

    /// An object that the selector takes no more is deleted to this watch, and one
    /// that it takes anew is added.
    fn send_change(&self, change: &Change) {
        let taken = |object: &Option<Value>| {
            object
                .as_ref()
                .is_some_and(|object| self.selector.takes(object))
        };
        match (taken(&change.before), taken(&change.after)) {
            (false, false) => {}
            (false, true) => self.send("ADDED", change.after.as_ref().unwrap()),
            (true, true) => self.send("MODIFIED", change.after.as_ref().unwrap()),
            (true, false) => {
                let mut last = change.before.clone().unwrap();
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                self.send("DELETED", &last);
            }
        }
    }

    fn send(&self, what: &str, object: &Value) {
        let line = json!({"type": what, "object": object});
        let _ = self.sender.send(format!("{line}\n"));
    }
}
