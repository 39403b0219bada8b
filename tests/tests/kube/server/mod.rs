//! An API server for tests: list and watch over HTTP as Kubernetes' documents them
//! (API concepts: resource versions, watches, bookmarks, chunked lists, streaming
//! lists, 410 Gone), objects changed by Rust calls, and trouble on demand.

mod http;
mod selector;
mod store;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Result;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use store::Store;

/// What the server offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Whether a watch may begin with a list (`sendInitialEvents`).
    pub(crate) streaming_lists: bool,
}

/// State that all requests share.
pub(crate) struct State {
    store: std::sync::Mutex<Store>,
    /// Counts changes of the store and commands to streams.
    wake: tokio::sync::watch::Sender<u64>,
    offer: Offer,
    /// Streams that began before this number was passed are cut.
    cuts: AtomicUsize,
    /// Whether requests are refused with 503.
    is_down: AtomicBool,
    /// Requests so far, refused ones among them.
    requests: AtomicUsize,
}

/// A running server; stops when dropped.
pub(crate) struct Server {
    state: Arc<State>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts one on a port of its own of this machine.
    pub(crate) async fn start(offer: Offer) -> Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), offer).await
    }

    /// Starts one on a port of its own of an address.
    pub(crate) async fn start_on(address: IpAddr, offer: Offer) -> Result<Self> {
        let (wake, _) = tokio::sync::watch::channel(0);
        let state = Arc::new(State {
            store: std::sync::Mutex::default(),
            wake,
            offer,
            cuts: AtomicUsize::new(0),
            is_down: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(http::serve(listener, Arc::clone(&state)));
        Ok(Self {
            state,
            address,
            task,
        })
    }

    /// Its address, as `--master` takes it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Creates or replaces an object.
    pub(crate) fn apply(&self, object: Value) {
        self.change(|store| store.apply(object));
    }

    /// Deletes an object of a kind, by namespace and name.
    pub(crate) fn delete(&self, kind: &str, name: (&str, &str)) {
        self.change(|store| store.delete(kind, name));
    }

    /// Forgets the history: watches that begin before now are answered by 410.
    pub(crate) fn compact(&self) {
        self.change(Store::compact);
    }

    /// Ends all watches that run now.
    pub(crate) fn cut_streams(&self) {
        self.state.cuts.fetch_add(1, Ordering::SeqCst);
        self.wake();
    }

    /// Refuses all requests with 503, or takes them again; cuts all watches.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::SeqCst);
        self.cut_streams();
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Stops listening, and starts again at the same address with nothing but its
    /// objects, as a server that was restarted.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.cut_streams();
        self.compact();
        let listener = TcpListener::bind(self.address).await?;
        self.task = tokio::spawn(http::serve(listener, Arc::clone(&self.state)));
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.state.store.lock().unwrap());
        self.wake();
    }

    fn wake(&self) {
        self.state.wake.send_modify(|count| *count += 1);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
