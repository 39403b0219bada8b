//! What a request is answered.

use std::sync::Arc;

use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::{Method, Response, header};
use serde_json::{Value, json};

use super::change::{create, patch};
use super::control::{Expiry, Health};
use super::failure::Failure;
use super::kind::Place;
use super::query::Seen;
use super::selector::Selector;
use super::shared::{Shared, lock, pause};
use super::watch::Watch;

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The answer to a request; `body` is what came with it.
pub(super) async fn answer(shared: Arc<Shared>, seen: Seen, body: Bytes) -> Response<Body> {
    let result = match respond(&shared, &seen, &body).await {
        Ok(Reply::Json(code, value)) => json_response(code, &value),
        Ok(Reply::Watch(watch)) => {
            let lines = futures::stream::unfold(watch, |mut watch| async move {
                let line = watch.next().await?;
                Some((line.map(Frame::data), watch))
            });
            let body = StreamBody::new(lines.boxed());
            Ok(respond_with(200, body.boxed_unsync()))
        }
        Err(failure) => json_response(failure.0, &failure.status()),
    };
    result.unwrap_or_else(|_: serde_json::Error| respond_with(500, empty()))
}

pub(super) enum Reply {
    Json(u16, Value),
    Watch(Box<Watch>),
}

async fn respond(shared: &Arc<Shared>, seen: &Seen, body: &Bytes) -> Result<Reply, Failure> {
    let delay = shared.control.borrow().delay;
    pause(delay).await;
    let mut control = shared.control.subscribe();
    // A server that is silent answers when it is well again.
    let health = control
        .wait_for(|control| control.health != Health::Silent)
        .await
        .map_or(Health::Well, |control| control.health);
    if let Health::Refusing(code) = health {
        return Err(Failure::of_code(code));
    }
    authorize(shared, seen)?;
    if seen.path == "/version" {
        return Ok(Reply::Json(200, version()));
    }
    let not_found = || {
        let message = "the server could not find the requested resource";
        Failure(404, "NotFound", message.to_owned())
    };
    let has_service_cidrs = lock(&shared.options).service_cidrs;
    let place = Place::of(&seen.path)
        .filter(|place| has_service_cidrs || place.kind.name != "ServiceCIDR")
        .ok_or_else(not_found)?;
    match (&seen.method, &place.name) {
        (&Method::GET, None) if seen.is_watch() => {
            let selector = selector(&place, seen)?;
            watch(shared, &place, selector, seen)
        }
        (&Method::GET, None) => {
            let selector = selector(&place, seen)?;
            list(shared, &place, &selector, seen)
        }
        (&Method::GET, Some(name)) => {
            let found = lock(&shared.store).get(&place.key(name));
            let object = found.ok_or_else(|| Failure::not_found(&place, name))?;
            Ok(Reply::Json(200, Value::clone(&object)))
        }
        (&Method::POST, None) => create(shared, &place, body),
        (&Method::PATCH, Some(name)) => patch(shared, &place, name, seen, body),
        _ => {
            let message = "the server does not allow this method on the requested resource";
            Err(Failure(405, "MethodNotAllowed", message.to_owned()))
        }
    }
}

fn authorize(shared: &Shared, seen: &Seen) -> Result<(), Failure> {
    let tokens = &lock(&shared.options).tokens;
    let is_known = |token: &String| tokens.contains(token);
    if tokens.is_empty() || seen.token.as_ref().is_some_and(is_known) {
        return Ok(());
    }
    Err(Failure(401, "Unauthorized", "Unauthorized".to_owned()))
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "", "goVersion": "", "compiler": "gc",
        "platform": "linux/amd64",
    })
}

fn selector(place: &Place, seen: &Seen) -> Result<Selector, Failure> {
    let of = |name| seen.parameter(name).unwrap_or_default();
    let namespace = place.namespace.as_deref();
    let (labels, fields) = (of("labelSelector"), of("fieldSelector"));
    Selector::parse(place.kind, namespace, labels, fields).map_err(Failure::bad_request)
}

/// A list, or a chunk of one: the continue token holds the version of the first
/// chunk and the last object of the one before, so that all show one state.
fn list(
    shared: &Shared,
    place: &Place,
    selector: &Selector,
    seen: &Seen,
) -> Result<Reply, Failure> {
    let number = |name: &str| seen.number(name).map_err(Failure::bad_request);
    let asked = number("resourceVersion")?;
    if seen.parameter("sendInitialEvents").is_some() {
        let message = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
        return Err(Failure::invalid(message));
    }
    let store = lock(&shared.store);
    let newest = store.version();
    let (version, after) = match (
        seen.parameter("continue"),
        seen.parameter("resourceVersionMatch"),
    ) {
        (Some(token), None) => {
            let (version, after) = token.split_once(':').unwrap_or_default();
            let version = version
                .parse()
                .map_err(|_| Failure::bad_request("continue key is not valid".to_owned()))?;
            (version, Some(after.to_owned()))
        }
        (Some(_), Some(_)) => {
            return Err(Failure::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when \
                 continue is provided",
            ));
        }
        (None, Some("Exact")) => (asked.unwrap_or(newest), None),
        (None, Some(_)) if asked.is_none() => {
            return Err(Failure::invalid(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless \
                 resourceVersion is provided",
            ));
        }
        (None, _) => (newest, None),
    };
    if asked.is_some_and(|asked| asked > newest) {
        let message = format!("Too large resource version: {asked:?}, current: {newest}");
        return Err(Failure(504, "Timeout", message));
    }
    let objects = store.list_at(place.kind.name, version).map_err(|_| {
        let message = "The provided continue parameter is too old to display a consistent \
                       list result.";
        match after {
            Some(_) => Failure(410, "Expired", message.to_owned()),
            None => Failure::expired(version, newest),
        }
    })?;
    drop(store);
    // A list of any version comes from a cache, which knows no chunks.
    let limit = number("limit")?.filter(|limit| *limit > 0 && asked != Some(0));
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let name = |(_, namespace, name): &(String, String, String)| format!("{namespace}/{name}");
    let mut matching: Vec<_> = objects
        .iter()
        .filter(|(key, object)| {
            after.as_ref().is_none_or(|after| name(key) > *after) && selector.takes(object)
        })
        .collect();
    // In the order of the names in the token: "/" sorts otherwise than a tuple.
    matching.sort_by_key(|(key, _)| name(key));
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if let Some(limit) = limit.filter(|limit| *limit < matching.len()) {
        metadata["remainingItemCount"] = json!(matching.len() - limit);
        metadata["continue"] = json!(format!("{version}:{}", name(matching[limit - 1].0)));
        matching.truncate(limit);
    }
    let items: Vec<Value> = matching.iter().map(|(_, object)| item(object)).collect();
    Ok(Reply::Json(
        200,
        json!({
            "kind": format!("{}List", place.kind.name), "apiVersion": place.kind.version,
            "metadata": metadata, "items": items,
        }),
    ))
}

/// The items of a list do not say their kind; the list does.
fn item(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

fn watch(
    shared: &Arc<Shared>,
    place: &Place,
    selector: Selector,
    seen: &Seen,
) -> Result<Reply, Failure> {
    let is_near = seen.parameter("resourceVersionMatch");
    match (seen.parameter("sendInitialEvents"), is_near) {
        (Some(_), _) if !lock(&shared.options).streaming_lists => Err(Failure::invalid(
            "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the \
             WatchList feature gate is enabled",
        )),
        (Some(_), Some("NotOlderThan")) | (None, None) => Ok(()),
        (Some(_), _) => Err(Failure::invalid(
            "resourceVersionMatch: Forbidden: sendInitialEvents requires setting \
             resourceVersionMatch to NotOlderThan",
        )),
        (None, Some(_)) => Err(Failure::invalid(
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
             sendInitialEvents is provided",
        )),
    }?;
    let from = seen
        .number("resourceVersion")
        .map_err(Failure::bad_request)?;
    let by_status = shared.control.borrow().expiry == Expiry::Status;
    let store = lock(&shared.store);
    if let Some(from) = from.filter(|from| by_status && *from > 0 && store.since(*from).is_err()) {
        return Err(Failure::expired(from, store.version()));
    }
    drop(store);
    let time = seen.time_limit().map_err(Failure::bad_request)?;
    let watch = Watch::begin(shared, place.kind, selector, seen, from, time);
    Ok(Reply::Watch(Box::new(watch)))
}

fn json_response(code: u16, value: &Value) -> Result<Response<Body>, serde_json::Error> {
    let text = serde_json::to_vec(value)?;
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    Ok(respond_with(code, body.boxed_unsync()))
}

fn empty() -> Body {
    Full::new(Bytes::new())
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn respond_with(code: u16, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code.try_into().unwrap_or_default();
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
