//! A server that is well.

use std::time::Duration;

use anyhow::Result;
use proxy_agent::metrics::Metrics;
use proxy_agent::source::kube::{KubeSettings, RequestMetrics, watch};
use proxy_tests::apiserver::{Options, Seen};
use proxy_tests::prometheus::Exposition;
use serde_json::json;

use crate::listener::{Listener, PATIENCE, QUICK, acquainted, server};
use crate::objects::{labelled, pod, service, service_at, service_cidr, slice};

fn changes_are_told(streaming_lists: bool) -> Result<()> {
    let (server, mut listener) = acquainted(streaming_lists, QUICK)?;
    server.apply(service("c"));
    server.apply(service_at("a", "10.96.0.9"));
    server.delete("Service", "default", "b");
    listener.until_services(&["a", "c"])?;
    assert_eq!(listener.services["a"], "10.96.0.9");
    server.delete("EndpointSlice", "default", "a-1");
    listener.until(|heard| heard.slices.is_empty())?;
    server.delete("Node", "", "there");
    server.delete("Node", "", "here");
    listener.until(|heard| heard.nodes.is_empty())?;
    assert_eq!(listener.gone, ["b", "a-1", "node"]);
    assert_eq!(listener.lists, 2);
    Ok(())
}

#[test]
fn changes_are_told_after_lists_in_pages() -> Result<()> {
    changes_are_told(false)
}

#[test]
fn changes_are_told_after_lists_that_come_as_watches() -> Result<()> {
    changes_are_told(true)
}

#[test]
fn requests_are_those_of_kube_proxy() -> Result<()> {
    let (server, _listener) = acquainted(true, QUICK)?;
    let requests = server.requests();
    assert_eq!(requests.len(), 4, "{requests:#?}");
    for request in &requests {
        assert!(request.is_streaming_list());
        assert_eq!(request.parameter("allowWatchBookmarks"), Some("true"));
        assert_eq!(request.parameter("resourceVersion"), None);
        let seconds: u32 = request.parameter("timeoutSeconds").unwrap().parse()?;
        assert!((180..=300).contains(&seconds));
        let labels = request.parameter("labelSelector");
        let fields = request.parameter("fieldSelector");
        let wanted = match request.path.as_str() {
            "/api/v1/services" => (
                Some("!service.kubernetes.io/service-proxy-name"),
                Some("spec.clusterIP!=None"),
            ),
            "/apis/discovery.k8s.io/v1/endpointslices" => {
                (Some("!service.kubernetes.io/headless"), None)
            }
            "/api/v1/nodes" => (None, Some("metadata.name=here")),
            "/apis/networking.k8s.io/v1/servicecidrs" => (None, None),
            other => panic!("{other}"),
        };
        assert_eq!((labels, fields), wanted);
    }
    Ok(())
}

#[test]
fn a_server_without_streaming_lists_is_listed_without_a_wait() -> Result<()> {
    let (server, _listener) = acquainted(false, QUICK)?;
    for kind in ["services", "endpointslices", "nodes"] {
        let requests = server.requests();
        let mut of_kind = requests.iter().filter(|request| request.is_of(kind));
        assert!(of_kind.next().unwrap().is_streaming_list());
        let list = of_kind.next().unwrap();
        assert!(!list.is_watch());
        assert_eq!(list.parameter("limit"), Some("100"));
    }
    Ok(())
}

#[test]
fn labels_and_addresses_take_objects_away_and_bring_them_back() -> Result<()> {
    let (server, mut listener) = acquainted(true, QUICK)?;
    let other_proxy = "service.kubernetes.io/service-proxy-name";
    server.apply(labelled(service("a"), other_proxy));
    listener.until_services(&["b"])?;
    server.apply(service("a"));
    listener.until_services(&["a", "b"])?;
    let mut headless = service("b");
    headless["spec"]["clusterIP"] = json!("None");
    server.apply(headless);
    listener.until_services(&["a"])?;
    server.apply(labelled(
        slice("a-1", "a"),
        "service.kubernetes.io/headless",
    ));
    listener.until(|heard| heard.slices.is_empty())?;
    assert_eq!(listener.gone, ["a", "b", "a-1"]);
    Ok(())
}

#[test]
fn service_cidrs_come_change_and_go() -> Result<()> {
    let (server, mut listener) = acquainted(true, QUICK)?;
    assert_eq!(listener.cidrs["kubernetes"], "10.96.0.0/16");
    server.apply(service_cidr("more", "fd00::/112"));
    server.apply(service_cidr("kubernetes", "10.97.0.0/16"));
    listener
        .until(|heard| heard.cidrs.len() == 2 && heard.cidrs["kubernetes"] == "10.97.0.0/16")?;
    server.delete("ServiceCIDR", "", "kubernetes");
    listener.until(|heard| heard.cidrs.keys().eq(["more"]))?;
    assert_eq!(listener.gone, ["kubernetes"]);
    Ok(())
}

#[test]
fn a_server_without_service_cidrs_is_followed_and_asked_again_after_its_upgrade() -> Result<()> {
    let server = server(Options {
        service_cidrs: false,
        ..Options::default()
    })?;
    let mut listener = Listener::of(&server, QUICK);
    listener.until(|heard| heard.lists == 2 && !heard.nodes.is_empty())?;
    let asked = |seen: &[Seen]| seen.iter().filter(|it| it.is_of("servicecidrs")).count();
    server.wait_for_requests(PATIENCE, |seen| asked(seen) >= 4)?;
    server.apply(service("c"));
    listener.until_services(&["a", "b", "c"])?;
    assert!(listener.cidrs.is_empty());
    server.set_service_cidrs(true);
    listener.until(|heard| heard.cidrs.keys().eq(["kubernetes"]))
}

fn many_are_told(streaming_lists: bool) -> Result<()> {
    let server = server(Options {
        streaming_lists,
        ..Options::default()
    })?;
    for number in 0..2000u32 {
        let [.., high, low] = number.to_be_bytes();
        let address = format!("10.97.{high}.{low}");
        server.apply(service_at(&format!("s{number:04}"), &address));
    }
    let mut listener = Listener::of(&server, QUICK);
    listener.until(|heard| heard.lists == 2 && !heard.nodes.is_empty())?;
    assert_eq!(listener.services.len(), 2002);
    assert_eq!(listener.reports, 2003, "each once");
    let requests = server.requests();
    let services = requests.iter().filter(|request| request.is_of("services"));
    let pages = services.filter(|request| !request.is_watch()).count();
    assert_eq!(pages, if streaming_lists { 0 } else { 21 });
    for number in 0..2000u32 {
        server.delete("Service", "default", &format!("s{number:04}"));
    }
    listener.until_services(&["a", "b"])?;
    assert_eq!(listener.gone.len(), 2000);
    Ok(())
}

#[test]
fn thousands_are_told_in_pages() -> Result<()> {
    many_are_told(false)
}

#[test]
fn thousands_are_told_by_a_watch() -> Result<()> {
    many_are_told(true)
}

#[tokio::test]
async fn the_source_ends_when_nobody_listens() -> Result<()> {
    let server = server(Options::default())?;
    let settings = KubeSettings {
        kubeconfig: None,
        master: Some(server.url()),
        pods: false,
    };
    let (sender, mut changes) = tokio::sync::mpsc::channel(1);
    let requests = RequestMetrics::default();
    let source = tokio::spawn(async move { watch(&settings, "here", requests, sender).await });
    tokio::time::timeout(PATIENCE, changes.recv()).await?;
    // Nothing happens any more that would have to be told.
    drop(changes);
    tokio::time::timeout(PATIENCE, source).await???;
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_and_all_but_watches_are_timed() -> Result<()> {
    let server = server(Options {
        streaming_lists: false,
        ..Options::default()
    })?;
    let settings = KubeSettings {
        kubeconfig: None,
        master: Some(server.url()),
        pods: false,
    };
    let metrics = Metrics::default();
    let (sender, _changes) = tokio::sync::mpsc::channel(16);
    let requests = metrics.requests.clone();
    let source = tokio::spawn(async move { watch(&settings, "here", requests, sender).await });
    let host = server.address().to_string();
    let value = |name: &str, labels: &[(&str, &str)]| {
        let exposition = Exposition::parse(&metrics.text().unwrap()).unwrap();
        let labels = [labels, &[("host", &*host)]].concat();
        exposition.value(name, &labels).unwrap_or_default()
    };
    let answered = [("code", "200"), ("method", "GET")];
    // A list and a watch of each kind.
    let all = async {
        while value("rest_client_requests_total", &answered) < 8.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await?;
    let timed = value(
        "rest_client_request_duration_seconds_count",
        &[("verb", "GET")],
    );
    assert!((3.5..4.5).contains(&timed), "{timed}");
    source.abort();
    Ok(())
}

#[test]
fn pods_that_opt_out_are_told_where_that_is_wanted() -> Result<()> {
    let server = server(Options::default())?;
    let mut elsewhere = pod("elsewhere");
    elsewhere["spec"]["nodeName"] = json!("there");
    let mut wants_all = pod("wants-all");
    wants_all["metadata"]["labels"]["proxy-agent/socket-path"] = json!("on");
    let mut of_a_file = pod("of-a-file");
    of_a_file["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "f0"});
    for object in [pod("meshed"), elsewhere, wants_all.clone(), of_a_file] {
        server.apply(object);
    }
    let settings = KubeSettings {
        kubeconfig: None,
        master: Some(server.url()),
        pods: true,
    };
    let mut listener = Listener::with(settings, QUICK);
    listener.until(|heard| heard.pods.len() == 2)?;
    // The server gives the ids.
    assert!(listener.pods["meshed"].starts_with("00000000-"));
    // By this id the kubelet knows a Pod that it has from a file.
    assert_eq!(listener.pods["of-a-file"], "f0");
    wants_all["metadata"]["name"] = json!("meshed");
    server.apply(wants_all);
    listener.until(|heard| heard.pods.len() == 1)?;
    assert_eq!(listener.gone, ["meshed"]);
    Ok(())
}
