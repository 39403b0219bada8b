//! What the source tells of a server's objects, through all kinds of trouble.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use proxy_agent::model::object::{Change, ObjectName};
use proxy_agent::source::kube::{self, KubeSettings};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::server::{Offer, Server};

const PATIENCE: Duration = Duration::from_secs(30);

fn service(name: &str, cluster_ip: &str) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "ClusterIP", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
            "ports": [{"port": 80, "protocol": "TCP"}],
        },
    })
}

fn node(name: &str) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    })
}

fn slice(name: &str, service: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.1"]}],
    })
}

/// Somebody who believes what the source says.
struct Listener {
    changes: mpsc::Receiver<Vec<Change>>,
    task: JoinHandle<Result<(), kube::KubeError>>,
    /// Services by name, with their ClusterIP.
    services: BTreeMap<String, String>,
    slices: BTreeMap<String, ObjectName>,
    has_node: bool,
    lists: usize,
    /// Every Service that was ever reported as gone.
    gone: Vec<String>,
}

impl Listener {
    fn of(server: &Server) -> Self {
        let (sender, changes) = mpsc::channel(16);
        let settings = KubeSettings {
            master: Some(server.url()),
            ..KubeSettings::default()
        };
        let task = tokio::spawn(async move { kube::watch(&settings, "here", sender).await });
        Self {
            changes,
            task,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            has_node: false,
            lists: 0,
            gone: Vec::new(),
        }
    }

    /// Listens until what was heard is as wanted.
    async fn until(&mut self, wanted: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(self) {
            match tokio::time::timeout_at(deadline, self.changes.recv()).await {
                Ok(Some(batch)) => batch.into_iter().for_each(|change| self.hear(change)),
                Ok(None) => bail!("the source ended"),
                Err(_) => bail!("heard of {:?}, {:?}", self.services, self.slices),
            }
        }
        Ok(())
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Service(service) => {
                let address = service.cluster_ips.concat();
                self.services.insert(service.name.name.to_string(), address);
            }
            Change::ServiceGone(name) => {
                self.gone.push(name.name.to_string());
                self.services.remove(&*name.name);
            }
            Change::EndpointSlice(slice) => {
                self.slices
                    .insert(slice.name.name.to_string(), slice.service);
            }
            Change::EndpointSliceGone(name) => drop(self.slices.remove(&*name.name)),
            Change::Node(_) => self.has_node = true,
            Change::NodeGone => self.has_node = false,
            Change::ServicesListed | Change::EndpointSlicesListed => self.lists += 1,
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        self.services.keys().eq(names)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const OLD: Offer = Offer {
    streaming_lists: false,
};
const NEW: Offer = Offer {
    streaming_lists: true,
};

/// A server with Services a and b, and somebody who has heard of them.
async fn acquainted(offer: Offer) -> Result<(Server, Listener)> {
    let server = Server::start(offer).await?;
    server.apply(service("a", "10.96.0.1"));
    server.apply(service("b", "10.96.0.2"));
    server.apply(slice("a-1", "a"));
    server.apply(node("here"));
    server.apply(node("there"));
    let mut listener = Listener::of(&server);
    listener
        .until(|heard| heard.lists == 2 && heard.has_node)
        .await?;
    assert!(listener.has(&["a", "b"]), "{:?}", listener.services);
    assert_eq!(listener.slices.len(), 1);
    Ok((server, listener))
}

async fn changes_are_told(offer: Offer) -> Result<()> {
    let (server, mut listener) = acquainted(offer).await?;
    server.apply(service("c", "10.96.0.3"));
    server.apply(service("a", "10.96.0.9"));
    server.delete("Service", ("default", "b"));
    listener.until(|heard| heard.has(&["a", "c"])).await?;
    assert_eq!(listener.services["a"], "10.96.0.9");
    server.delete("EndpointSlice", ("default", "a-1"));
    server.delete("Node", ("", "there"));
    listener.until(|heard| heard.slices.is_empty()).await?;
    server.delete("Node", ("", "here"));
    listener.until(|heard| !heard.has_node).await
}

#[tokio::test]
async fn changes_are_told_by_a_server_that_lists_in_pages() -> Result<()> {
    changes_are_told(OLD).await
}

#[tokio::test]
async fn changes_are_told_by_a_server_that_streams_its_lists() -> Result<()> {
    changes_are_told(NEW).await
}

#[tokio::test]
async fn a_label_added_later_takes_a_service_away() -> Result<()> {
    let (server, mut listener) = acquainted(NEW).await?;
    let mut other = service("a", "10.96.0.1");
    other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "x"});
    server.apply(other);
    listener.until(|heard| heard.has(&["b"])).await?;
    server.apply(service("a", "10.96.0.1"));
    listener.until(|heard| heard.has(&["a", "b"])).await?;
    let mut headless = service("b", "None");
    headless["spec"]["clusterIP"] = json!("None");
    server.apply(headless);
    listener.until(|heard| heard.has(&["a"])).await
}

#[tokio::test]
async fn a_stream_that_was_cut_goes_on_where_it_stopped() -> Result<()> {
    let (server, mut listener) = acquainted(NEW).await?;
    server.cut_streams();
    server.delete("Service", ("default", "a"));
    server.apply(service("c", "10.96.0.3"));
    listener.until(|heard| heard.has(&["b", "c"])).await?;
    assert_eq!(listener.gone, ["a"]);
    Ok(())
}

async fn what_vanished_unseen_is_gone(offer: Offer) -> Result<()> {
    let (server, mut listener) = acquainted(offer).await?;
    server.set_down(true);
    server.delete("Service", ("default", "a"));
    server.apply(service("c", "10.96.0.3"));
    server.compact();
    server.set_down(false);
    listener.until(|heard| heard.has(&["b", "c"])).await?;
    assert_eq!(listener.gone, ["a"], "nothing else was ever taken away");
    assert_eq!(listener.lists, 2, "the first lists are told once");
    Ok(())
}

#[tokio::test]
async fn what_vanished_before_an_expired_watch_was_listed_again_is_gone() -> Result<()> {
    what_vanished_unseen_is_gone(OLD).await
}

#[tokio::test]
async fn what_vanished_before_an_expired_watch_was_streamed_again_is_gone() -> Result<()> {
    what_vanished_unseen_is_gone(NEW).await
}

#[tokio::test]
async fn a_server_that_was_restarted_is_followed() -> Result<()> {
    let (mut server, mut listener) = acquainted(NEW).await?;
    server.restart().await?;
    server.delete("Service", ("default", "b"));
    listener.until(|heard| heard.has(&["a"])).await?;
    assert_eq!(listener.gone, ["b"]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_waited_for() -> Result<()> {
    let server = Server::start(NEW).await?;
    server.set_down(true);
    server.apply(service("a", "10.96.0.1"));
    let mut listener = Listener::of(&server);
    while server.requests() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(listener.lists, 0);
    server.set_down(false);
    listener.until(|heard| heard.lists == 2).await?;
    assert!(listener.has(&["a"]));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_not_asked_without_end() -> Result<()> {
    let server = Server::start(OLD).await?;
    server.set_down(true);
    let _listener = Listener::of(&server);
    // Time is the runtime's own here: it leaps ahead when nothing else happens.
    tokio::time::sleep(Duration::from_mins(10)).await;
    let requests = server.requests();
    assert!(requests > 3, "{requests}: it is asked again");
    assert!(requests < 200, "{requests} requests in ten minutes");
    Ok(())
}

#[tokio::test]
async fn a_list_of_many_pages_is_whole() -> Result<()> {
    let server = Server::start(OLD).await?;
    for number in 0..1700u32 {
        let [.., high, low] = number.to_be_bytes();
        let address = format!("10.97.{high}.{low}");
        server.apply(service(&format!("s{number:04}"), &address));
    }
    let mut listener = Listener::of(&server);
    listener.until(|heard| heard.lists == 2).await?;
    assert_eq!(listener.services.len(), 1700);
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_an_error() {
    let (sender, _changes) = mpsc::channel(1);
    let settings = KubeSettings {
        master: Some("nowhere".to_owned()),
        ..KubeSettings::default()
    };
    let error = kube::watch(&settings, "here", sender).await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
    let (sender, _changes) = mpsc::channel(1);
    let settings = KubeSettings {
        kubeconfig: Some("/no/such/file".into()),
        ..KubeSettings::default()
    };
    let error = kube::watch(&settings, "here", sender).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/file"), "{error}");
}
