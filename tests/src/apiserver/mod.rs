//! An API server for tests: list and watch as Kubernetes documents them.
//!
//! It speaks HTTP or HTTPS and keeps to what a client may rely on
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/>): resource versions
//! from one counter, lists in chunks that all show the state of the first one,
//! watches from a version with bookmarks, lists that come as a watch
//! (`sendInitialEvents`), label and field selectors whose answer changes with the
//! object, 410 for what is forgotten, creates and merge patches, Events checked as
//! strictly as the real server does, and errors as `Status` objects.
//!
//! Objects are changed by calls of [`ApiServer`], which also make trouble on demand:
//! refusals, silence, streams that are cut or broken, slowness, a stop and a restart
//! on the same address. It runs on a thread of its own, so a test can be blocking
//! or not; the thread stays in the network namespace of who started it.

mod answer;
mod change;
mod control;
mod event;
mod failure;
mod kind;
mod listener;
mod query;
mod selector;
mod shared;
mod store;
mod tls;
mod watch;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

pub use control::{Expiry, Health};
pub use query::Seen;
pub use tls::{Authority, Identity};

use control::Control;
use shared::{Log, Shared, lock};

/// What a server offers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub ip: IpAddr,
    /// Whether lists can come as watches (the feature gate `WatchList`).
    pub streaming_lists: bool,
    /// Whether there are ServiceCIDRs, as since Kubernetes 1.33.
    pub service_cidrs: bool,
    /// How often a watch gets a bookmark; the real one's is a minute.
    pub bookmark_interval: Duration,
    /// The bearer tokens that are taken; everybody may ask where there is none.
    pub tokens: Vec<String>,
    /// How many changes it remembers at least, as a real one's watch cache does; all
    /// of them where there is no number. Who asks for what came before is told 410.
    pub history: Option<usize>,
    /// The certificate for HTTPS; HTTP where there is none.
    pub identity: Option<Identity>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            streaming_lists: true,
            service_cidrs: true,
            bookmark_interval: Duration::from_mins(1),
            tokens: Vec::new(),
            history: None,
            identity: None,
        }
    }
}

/// A running API server; ends when dropped.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Accepts connections and serves them, unless stopped.
    serving: Option<JoinHandle<()>>,
    /// `None` only while dropped.
    runtime: Option<Runtime>,
}

impl ApiServer {
    /// Starts a server on a port of its own.
    ///
    /// # Errors
    ///
    /// No thread, or no port.
    pub fn start(options: Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("api-server")
            .enable_all()
            .build()?;
        let address = SocketAddr::new(options.ip, 0);
        let mut server = Self {
            shared: Arc::new(Shared::new(options)),
            address,
            serving: None,
            runtime: Some(runtime),
        };
        server.resume()?;
        Ok(server)
    }

    /// Its address, which a restart keeps.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as `--master` and kubeconfig files take it.
    pub fn url(&self) -> String {
        let is_https = lock(&self.shared.options).identity.is_some();
        let scheme = if is_https { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Creates an object or replaces it. An object that stays the same gets no new
    /// version, as with the real server.
    pub fn apply(&self, object: Value) {
        lock(&self.shared.store).apply(object);
        self.wake();
    }

    /// Deletes an object if it is there; Nodes are in the namespace `""`.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        lock(&self.shared.store).delete(kind, namespace, name);
        self.wake();
    }

    /// The objects of a kind.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        lock(&self.shared.store).iter(kind).cloned().collect()
    }

    /// The version of the newest change.
    pub fn version(&self) -> u64 {
        lock(&self.shared.store).version()
    }

    /// Forgets the history: versions from before now are expired, for new watches
    /// and for the continuation of lists. Watches that run are not affected.
    pub fn compact(&self) {
        lock(&self.shared.store).compact();
    }

    /// How an expired watch is told so.
    pub fn set_expiry(&self, expiry: Expiry) {
        self.control(|control| control.expiry = expiry);
    }

    /// How requests fare from now on, those that are under way too.
    pub fn set_health(&self, health: Health) {
        self.control(|control| control.health = health);
    }

    /// Makes each page of a list and each event of a watch take so much longer.
    pub fn set_delay(&self, delay: Duration) {
        self.control(|control| control.delay = delay);
    }

    /// Ends all watches that run, in order, as when their time is over.
    pub fn cut_streams(&self) {
        self.control(|control| control.cuts += 1);
    }

    /// Breaks all watches that run, in the midst of a line, and their connections.
    pub fn break_streams(&self) {
        self.control(|control| control.breaks += 1);
    }

    /// Whether lists can come as watches, from now on.
    pub fn set_streaming_lists(&self, streaming_lists: bool) {
        lock(&self.shared.options).streaming_lists = streaming_lists;
    }

    /// Whether there are ServiceCIDRs, from now on.
    pub fn set_service_cidrs(&self, service_cidrs: bool) {
        lock(&self.shared.options).service_cidrs = service_cidrs;
    }

    /// The bearer tokens that new requests need; none is needed where there is none.
    pub fn set_tokens(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(ToString::to_string).collect();
        lock(&self.shared.options).tokens = tokens;
    }

    /// The certificate for new connections.
    pub fn set_identity(&self, identity: Identity) {
        lock(&self.shared.options).identity = Some(identity);
    }

    /// Stops listening and drops all connections, as a process that is killed.
    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let gone = async move { drop(serving.await) };
            // Not before the sockets are closed is the address free.
            let _ = self.run(gone);
        }
    }

    /// Listens again on the same address, with the same objects and history.
    ///
    /// # Errors
    ///
    /// The address is taken.
    pub fn resume(&mut self) -> Result<()> {
        self.stop();
        let address = self.address;
        let listener = self.run(async move { listener::bind(address) })??;
        self.address = listener.local_addr()?;
        let serving = listener::serve(listener, Arc::clone(&self.shared));
        self.serving = self.runtime.as_ref().map(|runtime| runtime.spawn(serving));
        Ok(())
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.log).requests.clone()
    }

    /// Waits until the requests are as wanted.
    ///
    /// # Errors
    ///
    /// They did not become so in time.
    pub fn wait_for_requests(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&[Seen]) -> bool,
    ) -> Result<()> {
        self.wait_for(patience, |log| wanted(&log.requests))
    }

    /// Waits until the objects of a kind that clients write are as wanted, and returns
    /// them.
    ///
    /// # Errors
    ///
    /// They did not become so in time.
    pub fn wait_for_objects(
        &self,
        patience: Duration,
        kind: &str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Result<Vec<Value>> {
        self.wait_for(patience, |_| wanted(&self.objects(kind)))
            .with_context(|| format!("these objects: {:#?}", self.objects(kind)))?;
        Ok(self.objects(kind))
    }

    /// Waits until so many connections more have come, whether TLS came about on
    /// them or not.
    ///
    /// # Errors
    ///
    /// They did not come in time.
    pub fn wait_for_connections(&self, patience: Duration, more: usize) -> Result<()> {
        let wanted = lock(&self.shared.log).connections + more;
        self.wait_for(patience, |log| log.connections >= wanted)
    }

    fn wait_for(&self, patience: Duration, mut wanted: impl FnMut(&Log) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        let mut log = lock(&self.shared.log);
        while !wanted(&log) {
            let left = deadline
                .checked_duration_since(Instant::now())
                .with_context(|| format!("this is what came: {log:#?}"))?;
            (log, _) = self
                .shared
                .was_logged
                .wait_timeout(log, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Runs something on the server's own thread: it may be in another network
    /// namespace than the caller.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let runtime = self.runtime.as_ref().context("the server ends")?;
        runtime.spawn(async move { sender.send(work.await) });
        receiver.recv().context("the server's thread ended")
    }

    fn control(&self, change: impl FnOnce(&mut Control)) {
        self.shared.control.send_modify(change);
    }

    /// Has watches look for changes.
    fn wake(&self) {
        self.control(|_| {});
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed in an async test, and there is nothing left.
            runtime.shutdown_background();
        }
    }
}
