//! Events as the API server gets them.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use proxy_agent::model::{ObjectName, ServiceWarning, WarningReason};
use proxy_agent::recorder::{Event, Recorder, RecorderPolicy};
use proxy_agent::source::kube::{KubeSettings, RequestMetrics, RetryPolicy};
use proxy_tests::apiserver::{ApiServer, Health, Options, Seen};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn service(name: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "shop"}, "spec": {"clusterIP": "10.96.0.1"},
    })
}

/// A refusal about a Service of the namespace `shop`.
fn refusal(service: &str, number: u32) -> Event {
    let address = std::net::Ipv4Addr::from(0xc633_6400 + number).into();
    Event::from(&ServiceWarning {
        service: ObjectName::new("shop", service),
        reason: WarningReason::ExternalIpNotAllowed { address },
    })
}

fn start(server: &ApiServer) -> Recorder {
    let settings = KubeSettings {
        kubeconfig: None,
        master: Some(server.url()),
        pods: false,
    };
    let pace = RecorderPolicy {
        flush: Duration::from_millis(50),
        server: RetryPolicy {
            first_wait: Duration::from_millis(20),
            longest_wait: Duration::from_millis(200),
            ..RetryPolicy::default()
        },
        ..RecorderPolicy::default()
    };
    let requests = RequestMetrics::default();
    Recorder::start_with_policy(settings, "here", requests, pace)
}

/// Waits until the server's Events are as wanted.
fn until(server: &ApiServer, wanted: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    // The recorder has another thread of the runtime to itself.
    tokio::task::block_in_place(|| server.wait_for_objects(PATIENCE, "Event", wanted))
}

/// Waits until so many requests have come.
fn until_requests(server: &ApiServer, count: usize) -> Result<()> {
    tokio::task::block_in_place(|| server.wait_for_requests(PATIENCE, |seen| seen.len() >= count))
}

fn is_create(request: &Seen) -> bool {
    request.method == "POST"
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_at_its_object() -> Result<()> {
    let server = ApiServer::start(Options::default())?;
    server.apply(service("web"));
    let recorder = start(&server);
    recorder.record(Event::starting("here"));
    recorder.record(refusal("web", 1));
    let events = until(&server, |events| events.len() == 2)?;
    let of = |kind| {
        events
            .iter()
            .find(|event| event["regarding"]["kind"] == kind)
            .unwrap()
    };
    let web = &server.objects("Service")[0]["metadata"]["uid"];
    assert_eq!(
        of("Service")["regarding"],
        json!({"kind": "Service", "apiVersion": "v1", "namespace": "shop", "name": "web", "uid": web})
    );
    assert_eq!(of("Service")["metadata"]["namespace"], "shop");
    assert_eq!(of("Service")["type"], "Warning");
    assert_eq!(of("Service")["reason"], "ExternalIpNotAllowed");
    assert!(
        of("Service")["note"]
            .as_str()
            .unwrap()
            .contains("198.51.100.1")
    );
    assert_eq!(of("Service")["reportingInstance"], "here");
    assert_eq!(of("Node")["regarding"]["uid"], "here");
    assert_eq!(of("Node")["metadata"]["namespace"], "default");
    assert_eq!(of("Node")["type"], "Normal");
    assert_eq!(of("Node")["reason"], "Starting");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_events_are_one_object_with_a_count() -> Result<()> {
    let server = ApiServer::start(Options::default())?;
    server.apply(service("web"));
    let recorder = start(&server);
    for _ in 0..5 {
        recorder.record(refusal("web", 1));
    }
    recorder.record(refusal("web", 2));
    let events = until(&server, |events| {
        events.iter().any(|event| event["series"]["count"] == 5)
    })?;
    assert_eq!(events.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_neither_waits_nor_reaches_the_server() -> Result<()> {
    let server = ApiServer::start(Options::default())?;
    for number in 0..10_000 {
        server.apply(service(&format!("s{number}")));
    }
    let started = Instant::now();
    let recorder = start(&server);
    for number in 0..10_000 {
        recorder.record(refusal(&format!("s{number}"), number));
    }
    until(&server, |events| events.len() >= 30)?;
    // Some seconds later one more may be sent.
    server.apply(service("last"));
    for number in 0.. {
        recorder.record(refusal("last", number));
        let is_last = |event: &Value| event["regarding"]["name"] == "last";
        if server.objects("Event").iter().any(is_last) {
            break;
        }
        ensure!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let requests = server.requests();
    let creates = requests.iter().filter(|request| is_create(request));
    let creates = creates.count() as u64;
    let refilled = started.elapsed().as_secs() / 2;
    assert!((31..=30 + refilled).contains(&creates), "{creates}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_waits_for_a_server_that_is_away() -> Result<()> {
    let mut server = ApiServer::start(Options::default())?;
    server.stop();
    let recorder = start(&server);
    recorder.record(Event::starting("here"));
    // Somebody is at its address who only hangs up.
    let door = TcpListener::bind(server.address())?;
    for _ in 0..2 {
        tokio::task::block_in_place(|| door.accept())?;
    }
    drop(door);
    server.set_health(Health::Refusing(503));
    server.resume()?;
    until_requests(&server, 2)?;
    server.set_health(Health::Well);
    until(&server, |events| events.len() == 1)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_forbids_is_not_asked_again_and_holds_up_nothing() -> Result<()> {
    let server = ApiServer::start(Options::default())?;
    server.apply(service("web"));
    let recorder = start(&server);
    server.set_health(Health::Refusing(403));
    recorder.record(refusal("web", 1));
    recorder.record(refusal("web", 2));
    // The second one is asked for when the first one was answered.
    until_requests(&server, 2)?;
    server.set_health(Health::Well);
    // Of a Service that is gone there is nothing to tell.
    recorder.record(refusal("gone", 3));
    recorder.record(refusal("web", 4));
    let is_of = |number| {
        move |event: &Value| {
            let note = event["note"].as_str().unwrap();
            note.contains(&format!("198.51.100.{number} "))
        }
    };
    let events = until(&server, |events| events.iter().any(is_of(4)))?;
    assert!(!events.iter().any(is_of(1)));
    assert!(!events.iter().any(is_of(3)));
    Ok(())
}
