//! Somebody who believes what the source says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use proxy_agent::model::object::Change;
use proxy_agent::source::kube::{KubeSettings, RequestMetrics, RetryPolicy, watch_with_policy};
use proxy_tests::apiserver::{ApiServer, Options};
use tokio::sync::oneshot;

use crate::objects::{node, service, service_cidr, slice};

/// More than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits short enough for a test, and times long enough for a busy machine.
pub(crate) const QUICK: RetryPolicy = RetryPolicy {
    watch: Duration::from_mins(4),
    grace: Duration::from_secs(10),
    answer: Duration::from_secs(20),
    first_wait: Duration::from_millis(20),
    longest_wait: Duration::from_millis(200),
    settled: Duration::from_secs(10),
    absent: Duration::from_millis(200),
    page: 100,
};

pub(crate) struct Listener {
    batches: Receiver<Vec<Change>>,
    /// Ends the source when dropped.
    _stop: oneshot::Sender<()>,
    /// Services by name, with their addresses.
    pub(crate) services: BTreeMap<String, String>,
    /// Slices by name.
    pub(crate) slices: BTreeSet<String>,
    pub(crate) nodes: BTreeSet<String>,
    /// ServiceCIDRs by name, with their first ranges.
    pub(crate) cidrs: BTreeMap<String, String>,
    /// Ids of Pods, by name.
    pub(crate) pods: BTreeMap<String, String>,
    /// All that was ever reported as gone, in order.
    pub(crate) gone: Vec<String>,
    /// How often a list was said to be complete.
    pub(crate) lists: usize,
    /// How many objects were reported, each time counted.
    pub(crate) reports: usize,
}

impl Listener {
    /// Listens to a server that asks for no credentials.
    pub(crate) fn of(server: &ApiServer, pace: RetryPolicy) -> Self {
        let settings = KubeSettings {
            kubeconfig: None,
            master: Some(server.url()),
            pods: false,
        };
        Self::with(settings, pace)
    }

    /// Listens, on a thread of its own, so that the source goes on while a test
    /// does other things.
    pub(crate) fn with(settings: KubeSettings, pace: RetryPolicy) -> Self {
        let (sender, batches) = channel();
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let requests = RequestMetrics::default();
            let (changes, mut received) = tokio::sync::mpsc::channel::<Vec<Change>>(16);
            runtime.block_on(async {
                let forward = async {
                    while let Some(batch) = received.recv().await {
                        assert!(!batch.is_empty(), "an empty batch");
                        let _ = sender.send(batch);
                    }
                };
                let source = watch_with_policy(&settings, pace, "here", requests, changes);
                tokio::select! {
                    ended = source => panic!("the source ended: {ended:?}"),
                    () = forward => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            batches,
            _stop: stop,
            services: BTreeMap::new(),
            slices: BTreeSet::new(),
            nodes: BTreeSet::new(),
            cidrs: BTreeMap::new(),
            pods: BTreeMap::new(),
            gone: Vec::new(),
            lists: 0,
            reports: 0,
        }
    }

    /// Listens until what was heard is as wanted.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.batches.recv_timeout(left) {
                Ok(batch) => batch.into_iter().for_each(|change| self.hear(change)),
                Err(RecvTimeoutError::Timeout) => bail!(
                    "heard of {:?} {:?} {:?}, gone {:?}, {} lists",
                    self.services,
                    self.slices,
                    self.nodes,
                    self.gone,
                    self.lists
                ),
                Err(RecvTimeoutError::Disconnected) => bail!("the source ended"),
            }
        }
        Ok(())
    }

    /// Listens until these Services are there and no others.
    pub(crate) fn until_services(&mut self, names: &[&str]) -> Result<()> {
        self.until(|heard| heard.services.keys().eq(names))
    }

    fn hear(&mut self, change: Change) {
        match change {
            Change::Service(service) => {
                self.reports += 1;
                let address = service.cluster_ips.concat();
                self.services.insert(service.name.name.to_string(), address);
            }
            Change::ServiceGone(name) => {
                self.services.remove(&*name.name);
                self.gone.push(name.name.to_string());
            }
            Change::EndpointSlice(slice) => {
                self.reports += 1;
                self.slices.insert(slice.name.name.to_string());
            }
            Change::EndpointSliceGone(name) => {
                self.slices.remove(&*name.name);
                self.gone.push(name.name.to_string());
            }
            Change::Node(node) => drop(self.nodes.insert(node.name.to_string())),
            Change::NodeGone => {
                self.nodes.clear();
                self.gone.push("node".to_owned());
            }
            Change::ServiceCidr(cidr) => {
                let range = cidr.ranges[0].to_string();
                self.cidrs.insert(cidr.name.to_string(), range);
            }
            Change::ServiceCidrGone(name) => {
                self.cidrs.remove(&*name);
                self.gone.push(name.to_string());
            }
            Change::Pod(pod) => {
                let name = pod.name.name.to_string();
                self.pods.insert(name, pod.uid.to_string());
            }
            Change::PodGone(name) => {
                self.pods.remove(&*name.name);
                self.gone.push(name.name.to_string());
            }
            Change::ServicesListed => {
                assert!(!self.services.is_empty(), "listed before its objects");
                self.lists += 1;
            }
            Change::NodeListed => {}
            Change::EndpointSlicesListed => {
                assert!(!self.slices.is_empty(), "listed before its objects");
                self.lists += 1;
            }
        }
    }
}

/// A server with Services a and b, a slice, two nodes and a `ServiceCIDR`.
pub(crate) fn server(options: Options) -> Result<ApiServer> {
    let server = ApiServer::start(options)?;
    server.apply(service("a"));
    server.apply(service("b"));
    server.apply(slice("a-1", "a"));
    server.apply(node("here"));
    server.apply(node("there"));
    server.apply(service_cidr("kubernetes", "10.96.0.0/16"));
    Ok(server)
}

/// A server, and somebody who has heard all of it and follows.
pub(crate) fn acquainted(
    streaming_lists: bool,
    pace: RetryPolicy,
) -> Result<(ApiServer, Listener)> {
    let server = server(Options {
        streaming_lists,
        ..Options::default()
    })?;
    let mut listener = Listener::of(&server, pace);
    follow(&server, &mut listener)?;
    Ok((server, listener))
}

/// Waits until all is heard, and all four watches run.
pub(crate) fn follow(server: &ApiServer, listener: &mut Listener) -> Result<()> {
    listener
        .until(|heard| heard.lists == 2 && !heard.nodes.is_empty() && !heard.cidrs.is_empty())?;
    assert!(listener.services.keys().eq(["a", "b"]));
    assert!(listener.slices.iter().eq(["a-1"]));
    assert!(listener.nodes.iter().eq(["here"]));
    server.wait_for_requests(PATIENCE, |seen| {
        ["services", "endpointslices", "nodes", "servicecidrs"]
            .iter()
            .all(|kind| {
                seen.iter()
                    .any(|request| request.is_of(kind) && request.is_watch())
            })
    })
}
