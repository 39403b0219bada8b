//! The API server for tests keeps to what the real one documents.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::time::Duration;

use anyhow::Result;
use futures::{AsyncBufReadExt as _, Stream, StreamExt as _};
use kube::{Client, Config};
use proxy_tests::apiserver::{ApiServer, Expiry, Health, Options};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn node(name: &str, label: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name, "labels": {"a": label}}})
}

fn service(namespace: &str, name: &str, address: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address},
    })
}

/// A server, and a client that is not of our making.
fn start() -> Result<(ApiServer, Client)> {
    start_with(Options::default())
}

fn start_with(options: Options) -> Result<(ApiServer, Client)> {
    let server = ApiServer::start(options)?;
    let mut config = Config::new(server.url().parse()?);
    config.default_retry = false;
    Ok((server, Client::try_from(config)?))
}

fn request(path: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).body(Vec::new()).unwrap()
}

async fn get(client: &Client, path: &str) -> Value {
    client.request(request(path)).await.unwrap()
}

/// Code and reason of a refusal.
async fn refusal(client: &Client, path: &str) -> (u16, String) {
    match client.request::<Value>(request(path)).await.unwrap_err() {
        kube::Error::Api(status) => {
            assert!(!status.message.is_empty());
            (status.code, status.reason)
        }
        other => panic!("{other}"),
    }
}

async fn watch(client: &Client, path: &str) -> impl Stream<Item = Value> + use<> {
    let lines = client.request_stream(request(path)).await.unwrap().lines();
    Box::pin(lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()))
}

/// The next event in short: type, name, version.
async fn next(events: &mut (impl Stream<Item = Value> + Unpin)) -> String {
    match tokio::time::timeout(PATIENCE, events.next()).await.unwrap() {
        Some(event) => {
            let metadata = &event["object"]["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let parts = [
                &event["type"],
                &metadata["name"],
                &metadata["resourceVersion"],
            ];
            parts.map(text).join(" ")
        }
        None => "end".to_owned(),
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_list_has_a_version_and_items_without_a_kind() -> Result<()> {
    let (server, client) = start()?;
    server.apply(node("b", "1"));
    server.apply(node("a", "1"));
    let list = get(&client, "/api/v1/nodes").await;
    assert_eq!(list["kind"], "NodeList");
    assert_eq!(list["metadata"]["resourceVersion"], "2");
    assert_eq!(names(&list), ["a", "b"]);
    assert_eq!(list["items"][1]["metadata"]["resourceVersion"], "1");
    assert!(list["items"][0].get("kind").is_none());
    let one = get(&client, "/api/v1/nodes/a").await;
    assert_eq!(one["kind"], "Node");
    Ok(())
}

#[tokio::test]
async fn chunks_of_a_list_show_one_state_until_it_expires() -> Result<()> {
    let (server, client) = start()?;
    for name in ["a", "b", "c", "d", "e"] {
        server.apply(node(name, "1"));
    }
    let first = get(&client, "/api/v1/nodes?limit=2").await;
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete("Node", "", "c");
    server.apply(node("d", "2"));
    server.apply(node("bb", "1"));
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = format!("/api/v1/nodes?limit=3&continue={token}");
    let second = get(&client, &rest).await;
    assert_eq!(names(&second), ["c", "d", "e"]);
    assert_eq!(second["items"][1]["metadata"]["labels"]["a"], "1");
    assert_eq!(second["metadata"]["resourceVersion"], "5");
    assert!(second["metadata"].get("continue").is_none());
    let newest = get(&client, "/api/v1/nodes").await;
    assert_eq!(names(&newest), ["a", "b", "bb", "d", "e"]);
    server.compact();
    assert_eq!(refusal(&client, &rest).await, (410, "Expired".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_watch_goes_on_from_a_version_and_ends_in_time() -> Result<()> {
    let (server, client) = start()?;
    server.apply(node("a", "1"));
    server.apply(node("b", "1"));
    let path = "/api/v1/nodes?watch=true&resourceVersion=1&timeoutSeconds=1&allowWatchBookmarks=1";
    let mut events = watch(&client, path).await;
    assert_eq!(next(&mut events).await, "ADDED b 2");
    server.apply(node("a", "2"));
    assert_eq!(next(&mut events).await, "MODIFIED a 3");
    server.apply(service("default", "other", "10.96.0.1"));
    server.delete("Node", "", "a");
    assert_eq!(next(&mut events).await, "DELETED a 5");
    assert_eq!(next(&mut events).await, "BOOKMARK  5");
    assert_eq!(next(&mut events).await, "end");
    Ok(())
}

#[tokio::test]
async fn bookmarks_come_where_they_are_wanted() -> Result<()> {
    let (server, client) = start_with(Options {
        bookmark_interval: Duration::from_millis(20),
        ..Options::default()
    })?;
    server.apply(node("a", "1"));
    let path = "/api/v1/nodes?watch=1&resourceVersion=1";
    let mut without = watch(&client, path).await;
    let mut with = watch(&client, &format!("{path}&allowWatchBookmarks=true")).await;
    for _ in 0..3 {
        assert_eq!(next(&mut with).await, "BOOKMARK  1");
    }
    server.apply(node("b", "1"));
    assert_eq!(next(&mut without).await, "ADDED b 2");
    Ok(())
}

#[tokio::test]
async fn a_watch_can_begin_with_a_list() -> Result<()> {
    let (server, client) = start()?;
    server.apply(node("a", "1"));
    server.apply(node("b", "1"));
    let path = "/api/v1/nodes?watch=1&sendInitialEvents=true";
    let near = "&resourceVersionMatch=NotOlderThan";
    let mut events = watch(&client, &format!("{path}{near}&allowWatchBookmarks=1")).await;
    assert_eq!(next(&mut events).await, "ADDED a 1");
    assert_eq!(next(&mut events).await, "ADDED b 2");
    let end = events.next().await.unwrap();
    assert_eq!(end["type"], "BOOKMARK");
    let metadata = &end["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(metadata["resourceVersion"], "2");
    server.delete("Node", "", "a");
    assert_eq!(next(&mut events).await, "DELETED a 3");

    let invalid = (422, "Invalid".to_owned());
    assert_eq!(refusal(&client, path).await, invalid);
    let list = "/api/v1/nodes?sendInitialEvents=true";
    assert_eq!(refusal(&client, list).await, invalid);
    let other = format!("/api/v1/nodes?watch=1{near}");
    assert_eq!(refusal(&client, &other).await, invalid);
    server.set_streaming_lists(false);
    assert_eq!(refusal(&client, &format!("{path}{near}")).await, invalid);
    Ok(())
}

#[tokio::test]
async fn a_watch_from_no_version_begins_with_all_objects() -> Result<()> {
    let (server, client) = start()?;
    server.apply(node("a", "1"));
    for version in ["", "0"] {
        let path = format!("/api/v1/nodes?watch=1&resourceVersion={version}");
        let mut events = watch(&client, &path).await;
        assert_eq!(next(&mut events).await, "ADDED a 1");
    }
    Ok(())
}

#[tokio::test]
async fn an_expired_watch_is_told_so_either_way() -> Result<()> {
    let (server, client) = start()?;
    server.apply(node("a", "1"));
    let path = "/api/v1/nodes?watch=1&resourceVersion=1";
    let mut running = watch(&client, path).await;
    server.compact();
    let mut events = watch(&client, path).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(event["object"]["kind"], "Status");
    assert_eq!(event["object"]["code"], 410);
    assert_eq!(event["object"]["reason"], "Expired");
    assert_eq!(next(&mut events).await, "end");
    server.set_expiry(Expiry::Status);
    assert_eq!(refusal(&client, path).await, (410, "Expired".to_owned()));
    drop(running.next());
    Ok(())
}

#[tokio::test]
async fn selectors_change_their_answer_with_the_object() -> Result<()> {
    let (server, client) = start()?;
    server.apply(service("default", "a", "10.96.0.1"));
    server.apply(service("default", "h", "None"));
    server.apply(service("other", "o", "10.96.0.2"));
    let selectors = "labelSelector=!x/y&fieldSelector=spec.clusterIP!%3DNone";
    let list = get(&client, &format!("/api/v1/services?{selectors}")).await;
    assert_eq!(names(&list), ["a", "o"]);
    let list = get(&client, "/api/v1/namespaces/other/services").await;
    assert_eq!(names(&list), ["o"]);
    let path = format!("/api/v1/services?watch=1&resourceVersion=3&{selectors}");
    let mut events = watch(&client, &path).await;
    let mut labelled = service("default", "a", "10.96.0.1");
    labelled["metadata"]["labels"] = json!({"x/y": ""});
    server.apply(labelled.clone());
    assert_eq!(next(&mut events).await, "DELETED a 4");
    labelled["spec"]["type"] = json!("NodePort");
    server.apply(labelled);
    server.apply(service("default", "a", "10.96.0.1"));
    assert_eq!(next(&mut events).await, "ADDED a 6");
    Ok(())
}

#[tokio::test]
async fn bad_requests_are_refused_by_their_status() -> Result<()> {
    let (server, client) = start()?;
    server.apply(node("a", "1"));
    for (path, code, reason) in [
        ("/api/v1/nodes?fieldSelector=spec.x%3D1", 400, "BadRequest"),
        (
            "/api/v1/nodes?labelSelector=a%20in%20(b)",
            400,
            "BadRequest",
        ),
        ("/api/v1/nodes?resourceVersion=x", 400, "BadRequest"),
        ("/api/v1/nodes?continue=x", 400, "BadRequest"),
        ("/api/v1/nodes?resourceVersion=9", 504, "Timeout"),
        (
            "/api/v1/nodes?resourceVersionMatch=Exact&continue=1:",
            422,
            "Invalid",
        ),
        ("/api/v1/nodes/b", 404, "NotFound"),
        ("/api/v1/secrets", 404, "NotFound"),
        (
            "/apis/discovery.k8s.io/v1beta1/endpointslices",
            404,
            "NotFound",
        ),
    ] {
        assert_eq!(
            refusal(&client, path).await,
            (code, reason.to_owned()),
            "{path}"
        );
    }
    server.set_health(Health::Refusing(503));
    let unavailable = (503, "ServiceUnavailable".to_owned());
    assert_eq!(refusal(&client, "/api/v1/nodes").await, unavailable);
    server.set_health(Health::Well);
    server.set_tokens(&["secret"]);
    let unauthorized = (401, "Unauthorized".to_owned());
    assert_eq!(refusal(&client, "/api/v1/nodes").await, unauthorized);
    Ok(())
}

/// An Event that the API server takes.
fn event() -> Value {
    json!({
        "metadata": {"name": "here.17f", "namespace": "default"},
        "eventTime": "2024-01-01T00:00:00.000000Z", "type": "Normal", "reason": "Starting",
        "action": "Start", "reportingController": "x", "reportingInstance": "here",
        "regarding": {"kind": "Node", "name": "here"},
    })
}

async fn create(client: &Client, event: &Value) -> kube::Result<Value> {
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let request = http::Request::post(path).body(event.to_string().into());
    client.request(request.unwrap()).await
}

async fn patch(client: &Client, change: Value) -> kube::Result<Value> {
    let path = "/apis/events.k8s.io/v1/namespaces/default/events/here.17f";
    let request = http::Request::patch(path)
        .header("content-type", "application/merge-patch+json")
        .body(change.to_string().into());
    client.request(request.unwrap()).await
}

fn code(refused: kube::Result<Value>) -> u16 {
    match refused.unwrap_err() {
        kube::Error::Api(status) => status.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn events_are_stored_once_and_only_their_series_changes() -> Result<()> {
    let (server, client) = start()?;
    create(&client, &event()).await?;
    assert_eq!(server.objects("Event")[0]["reason"], "Starting");
    assert_eq!(code(create(&client, &event()).await), 409);
    let series = json!({"count": 2, "lastObservedTime": "2024-01-01T00:00:09.000000Z"});
    let changed = patch(&client, json!({"series": series})).await?;
    assert_eq!(changed["series"], series);
    assert_eq!(code(patch(&client, json!({"note": "x"})).await), 422);
    assert_eq!(
        code(patch(&client, json!({"series": {"count": 1}})).await),
        422
    );
    Ok(())
}

#[tokio::test]
async fn events_that_say_too_little_or_too_much_are_refused() -> Result<()> {
    let (server, client) = start()?;
    for (field, bad) in [
        ("eventTime", json!("2024-01-01T00:00:00Z")),
        ("type", json!("Strange")),
        ("reason", json!("")),
        ("action", json!(null)),
        ("note", json!("x".repeat(1025))),
        ("reportingInstance", json!("x".repeat(129))),
        (
            "regarding",
            json!({"kind": "Service", "namespace": "other", "name": "a"}),
        ),
        ("deprecatedCount", json!(1)),
        ("metadata", json!({"name": "UPPER"})),
    ] {
        let mut event = event();
        event[field] = bad;
        assert_eq!(code(create(&client, &event).await), 422, "{field}");
    }
    assert!(server.objects("Event").is_empty());
    Ok(())
}

#[tokio::test]
async fn a_server_that_was_stopped_is_back_at_its_address_with_its_objects() -> Result<()> {
    let (mut server, client) = start()?;
    server.apply(node("a", "1"));
    let path = "/api/v1/nodes?watch=1&resourceVersion=1";
    let mut lines = client.request_stream(request(path)).await?.lines();
    server.stop();
    assert!(lines.next().await.is_none_or(|line| line.is_err()));
    assert!(client.request::<Value>(request("/version")).await.is_err());
    server.apply(node("b", "1"));
    server.resume()?;
    let mut events = watch(&client, path).await;
    assert_eq!(next(&mut events).await, "ADDED b 2");
    Ok(())
}
