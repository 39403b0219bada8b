//! A watch: a stream of events, a line each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::control::{Control, Health};
use super::failure::Failure;
use super::kind::Kind;
use super::query::Seen;
use super::selector::Selector;
use super::shared::{Shared, lock, pause};
use super::store::Change;

/// A watch that runs.
pub(super) struct Watch {
    shared: Arc<Shared>,
    control: Receiver<Control>,
    kind: &'static Kind,
    selector: Selector,
    /// All up to here was sent or waits in `lines`.
    version: u64,
    lines: VecDeque<Bytes>,
    /// How many cuts and breaks there were when it began.
    cuts: u64,
    breaks: u64,
    /// When the next bookmark is due, if any is wanted.
    bookmark: Option<Instant>,
    ends: Instant,
    /// Nothing comes after `lines`.
    is_over: bool,
    /// The connection breaks next.
    is_broken: bool,
}

impl Watch {
    /// A watch from a version on, or from now on where there is none: then it begins
    /// with all objects, whether it is a list or not.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        kind: &'static Kind,
        selector: Selector,
        seen: &Seen,
        from: Option<u64>,
        time: Duration,
    ) -> Self {
        let mut control = shared.control.subscribe();
        let Control {
            cuts,
            breaks,
            health,
            ..
        } = *control.borrow_and_update();
        let interval = lock(&shared.options).bookmark_interval;
        let wants_bookmarks = seen.flag("allowWatchBookmarks");
        let mut watch = Self {
            shared: Arc::clone(shared),
            control,
            kind,
            selector,
            version: from.unwrap_or_default(),
            lines: VecDeque::new(),
            cuts,
            breaks,
            bookmark: wants_bookmarks.then(|| Instant::now() + interval),
            ends: Instant::now() + time,
            is_over: false,
            is_broken: false,
        };
        if health == Health::EndingWatches {
            watch.is_over = true;
        } else if seen.is_streaming_list() || watch.version == 0 {
            watch.add_all();
            if seen.is_streaming_list() && wants_bookmarks {
                watch.add_bookmark(true);
            }
        }
        watch
    }

    /// The next piece of the stream; an error breaks the connection.
    pub(super) async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        loop {
            let control = self.control.borrow_and_update().clone();
            if self.is_broken {
                return Some(Err(std::io::Error::other("broken for a test")));
            }
            if control.breaks != self.breaks {
                self.is_broken = true;
                let half = r#"{"type":"MODIFIED","object":{"kind":""#;
                return Some(Ok(Bytes::from_static(half.as_bytes())));
            }
            if control.cuts != self.cuts {
                return None;
            }
            if control.health == Health::Silent {
                self.control.changed().await.ok()?;
                continue;
            }
            if let Some(line) = self.lines.pop_front() {
                pause(control.delay).await;
                return Some(Ok(line));
            }
            if self.is_over {
                return None;
            }
            self.catch_up();
            if self.lines.is_empty() {
                self.wait().await?;
            }
        }
    }

    /// Takes what happened since.
    fn catch_up(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = lock(&shared.store);
        let newest = store.version();
        let Ok(changes) = store.since(self.version) else {
            let expired = Failure::expired(self.version, newest);
            self.add("ERROR", &expired.status());
            self.is_over = true;
            return;
        };
        for change in changes {
            if change.key.0 == self.kind.name {
                self.add_change(change);
            }
        }
        // A version that is still to come is waited for.
        self.version = self.version.max(newest);
    }

    /// Waits for a reason to go on.
    async fn wait(&mut self) -> Option<()> {
        let bookmark = self.bookmark;
        let due = async {
            match bookmark {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.control.changed() => changed.ok()?,
            () = sleep_until(self.ends) => {
                // The real server tries to end with a bookmark too.
                if self.bookmark.is_some() {
                    self.add_bookmark(false);
                }
                self.is_over = true;
            }
            () = due => {
                self.add_bookmark(false);
                let interval = lock(&self.shared.options).bookmark_interval;
                self.bookmark = Some(Instant::now() + interval);
            }
        }
        Some(())
    }

    fn add(&mut self, what: &str, object: &Value) {
        // Written out at once: a queue of values takes several times the memory.
        let line = format!("{{\"type\":\"{what}\",\"object\":{object}}}\n");
        self.lines.push_back(line.into());
    }

    /// All objects, as if they were new.
    fn add_all(&mut self) {
        let shared = Arc::clone(&self.shared);
        let store = lock(&shared.store);
        for object in store.iter(self.kind.name) {
            if self.selector.takes(object) {
                self.add("ADDED", object);
            }
        }
        self.version = store.version();
    }

    fn add_bookmark(&mut self, ends_list: bool) {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if ends_list {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = json!({
            "kind": self.kind.name, "apiVersion": self.kind.version, "metadata": metadata,
        });
        self.add("BOOKMARK", &object);
    }

    /// An object that the selector takes no more is deleted to this watch, and one
    /// that it takes anew is added. What is deleted is shown as it was last, with
    /// the version of its deletion.
    fn add_change(&mut self, change: &Change) {
        let before = change.before.as_deref();
        let before = before.filter(|object| self.selector.takes(object));
        let after = change.after.as_deref();
        let after = after.filter(|object| self.selector.takes(object));
        match (before, after) {
            (None, None) => {}
            (None, Some(after)) => self.add("ADDED", after),
            (Some(_), Some(after)) => self.add("MODIFIED", after),
            (Some(before), None) => {
                let mut last = before.clone();
                last["metadata"]["resourceVersion"] = json!(change.version.to_string());
                self.add("DELETED", &last);
            }
        }
    }
}
