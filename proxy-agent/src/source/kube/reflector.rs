//! Follows one kind of object: a list, then a watch from where the list stood, then
//! the next watch from where the last one stopped; a new list only where the server
//! has forgotten what came since.
//!
//! Written here and not taken from kube's runtime, whose watcher lists and begins
//! watches without a time limit, never lists anew when the beginning of a watch is
//! answered by 410, asks without a pause while a server ends each watch at once, and
//! has to be configured whether the server has streaming lists.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};

use super::client::Connection;
use super::pace::{Backoff, RetryPolicy};
use super::resource::WatchedResource;
use super::track::KnownObjects;
use super::watch_error::WatchError;
use crate::model::object::Change;

/// Marks the bookmark that ends a list which comes as a watch.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

type Events<K> = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<K>>> + Send>>;

/// What follows one kind of object.
pub(super) struct Reflector<'a, K> {
    connection: &'a Connection,
    node_name: &'a str,
    pace: RetryPolicy,
    changes: mpsc::Sender<Change>,
    tracker: KnownObjects<K>,
    /// The resource version to go on from; `None` where a list is needed.
    resource_version: Option<String>,
    /// Whether to try the next list as a stream. After each list that failed it is
    /// the other way's turn, for a server may fail at one of them alone.
    use_watch_list: bool,
    /// Whether to list without pages: the server forgot a list between two pages.
    unpaged: bool,
    /// When the watch of this attempt began, its list being complete.
    watching: Option<Instant>,
    /// Whether that watch brought anything.
    got_events: bool,
}

impl<'a, K: WatchedResource> Reflector<'a, K> {
    pub(super) fn new(
        connection: &'a Connection,
        node_name: &'a str,
        pace: RetryPolicy,
        changes: mpsc::Sender<Change>,
    ) -> Self {
        Self {
            connection,
            node_name,
            pace,
            changes,
            tracker: KnownObjects::new(node_name),
            resource_version: None,
            use_watch_list: true,
            unpaged: false,
            watching: None,
            got_events: false,
        }
    }

    /// Reports changes until the receiver is dropped.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(self.pace);
        let mut has_failed = false;
        let mut is_absent = false;
        let mut relists_at_once = true;
        loop {
            let (client, number) = self.connection.client();
            self.watching = None;
            self.got_events = false;
            let ended = self.attempt(&Api::all(client)).await;
            let has_settled = self
                .watching
                .is_some_and(|began| began.elapsed() >= self.pace.settled);
            if has_settled || self.got_events {
                backoff.reset();
                relists_at_once = true;
                if std::mem::take(&mut has_failed) {
                    info!("{}: watch re-established", K::PLURAL);
                }
            }
            let error = match ended {
                Ok(()) if has_settled => continue,
                Ok(()) => None,
                Err(WatchError::ReceiverDropped) => return,
                Err(error) => Some(error),
            };
            if K::IS_OPTIONAL
                && let Some(error) = &error
                && error.is_of_unknown_kind()
            {
                if !std::mem::replace(&mut is_absent, true) {
                    info!(
                        "{}: not supported by this API server; continuing without",
                        K::PLURAL
                    );
                }
                sleep(self.pace.next_discovery()).await;
                continue;
            }
            // The server is there and has forgotten what came since: the next list does not
            // wait for what an outage before has made the backoff, but for a list that was of
            // no use it does.
            if let Some(error) = &error
                && self.is_outdated(error)
                && std::mem::take(&mut relists_at_once)
            {
                info!("{}: {error}; listing again", K::PLURAL);
                self.resource_version = None;
                backoff.reset();
                continue;
            }
            let wait = backoff.next();
            if let Some(error) = error {
                if error.is_unreachable() {
                    let server = self.connection.unreachable_server();
                    warn!("{}: {error} ({server}); going on in {wait:.1?}", K::PLURAL);
                } else {
                    warn!("{}: {error}; going on in {wait:.1?}", K::PLURAL);
                }
                has_failed = true;
                self.adapt_to(&error, number).await;
            } else {
                debug!("{}: the watch ended early", K::PLURAL);
            }
            sleep(wait).await;
        }
    }

    /// Whether only a new list helps.
    fn is_outdated(&self, error: &WatchError) -> bool {
        self.resource_version.is_some() && error.is_expired()
    }

    /// What to do otherwise next time.
    async fn adapt_to(&mut self, error: &WatchError, client: u64) {
        if self.resource_version.is_none() {
            self.use_watch_list = !self.use_watch_list;
        } else if self.is_outdated(error) {
            self.resource_version = None;
        }
        if error.may_be_stale_credentials() {
            self.connection.renew(client).await;
        }
    }

    /// A list if one is needed, and one watch, which ends in order with `Ok`.
    async fn attempt(&mut self, api: &Api<K>) -> Result<(), WatchError> {
        let mut events = None;
        if self.resource_version.is_none() {
            events = self.watch_list(api).await?;
            if events.is_none() {
                self.paged_list(api).await?;
            }
        }
        let (events, deadline) = match events {
            Some(events) => events,
            None => self.begin_watch(api, false).await?,
        };
        self.watch(events, deadline).await
    }

    /// Begins a watch; with a list before it if wanted. Also says when the server
    /// should have ended it.
    async fn begin_watch(
        &self,
        api: &Api<K>,
        with_list: bool,
    ) -> Result<(Events<K>, Instant), WatchError> {
        let seconds = self.pace.watch_seconds();
        let parameters = WatchParams {
            label_selector: K::LABELS.map(str::to_owned),
            field_selector: K::fields(self.node_name),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: with_list,
        };
        let deadline = Instant::now() + std::time::Duration::from_secs(seconds.into());
        // A list without a version is one of the newest state: a server that lags
        // behind would else take us back in time.
        let version = self.resource_version.as_deref().unwrap_or_default();
        let events = timeout(self.pace.answer, api.watch(&parameters, version))
            .await
            .map_err(|_| WatchError::Silent(self.pace.answer))??;
        Ok((events.boxed(), deadline + self.pace.grace))
    }

    /// A list that comes as the beginning of a watch; `None` where the server has no
    /// such thing, or where it is not its turn.
    async fn watch_list(
        &mut self,
        api: &Api<K>,
    ) -> Result<Option<(Events<K>, Instant)>, WatchError> {
        if !self.use_watch_list {
            return Ok(None);
        }
        let (mut events, deadline) = match self.begin_watch(api, true).await {
            Err(error) if error.is_unknown_request() => {
                debug!("{}: no streaming lists: {error}", K::PLURAL);
                return Ok(None);
            }
            other => other?,
        };
        self.tracker.begin_list();
        loop {
            let event = timeout(self.pace.answer, events.try_next())
                .await
                .map_err(|_| WatchError::Silent(self.pace.answer))??;
            match event.ok_or(WatchError::Truncated)? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let change = self.tracker.apply(object);
                    self.report(change).await?;
                }
                WatchEvent::Deleted(object) => {
                    let change = self.tracker.delete(&object);
                    self.report(change).await?;
                }
                WatchEvent::Bookmark(bookmark) => {
                    let metadata = bookmark.metadata;
                    if metadata.annotations.contains_key(INITIAL_EVENTS_END) {
                        self.end_list(metadata.resource_version).await?;
                        return Ok(Some((events, deadline)));
                    }
                }
                WatchEvent::Error(status) => return Err(WatchError::Refused(status)),
            }
        }
    }

    /// A list in pages, each of them one answer.
    async fn paged_list(&mut self, api: &Api<K>) -> Result<(), WatchError> {
        self.tracker.begin_list();
        let mut parameters = ListParams {
            label_selector: K::LABELS.map(str::to_owned),
            field_selector: K::fields(self.node_name),
            limit: (!self.unpaged).then_some(self.pace.page),
            ..ListParams::default()
        };
        loop {
            let answer = timeout(self.pace.answer, api.list(&parameters)).await;
            let page = match answer {
                Ok(page) => page.map_err(WatchError::from),
                Err(_) => Err(WatchError::Silent(self.pace.answer)),
            };
            let page = page.inspect_err(|error| self.unpaged |= error.is_expired())?;
            for object in page.items {
                let change = self.tracker.apply(object);
                self.report(change).await?;
            }
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                return self.end_list(version).await;
            }
        }
    }

    /// A list is complete.
    async fn end_list(&mut self, version: String) -> Result<(), WatchError> {
        let gone = self.tracker.end_list();
        self.report(gone).await?;
        self.move_to(Some(version));
        self.use_watch_list = true;
        self.unpaged = false;
        debug!("{}: listed", K::PLURAL);
        Ok(())
    }

    /// What a watch brings, until the server ends it.
    async fn watch(&mut self, mut events: Events<K>, deadline: Instant) -> Result<(), WatchError> {
        self.watching = Some(Instant::now());
        loop {
            let event = timeout_at(deadline, events.try_next())
                .await
                .map_err(|_| WatchError::NotClosed)??;
            let Some(event) = event else {
                return Ok(());
            };
            let version = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let version = object.meta().resource_version.clone();
                    let change = self.tracker.apply(object);
                    self.report(change).await?;
                    version
                }
                WatchEvent::Deleted(object) => {
                    let change = self.tracker.delete(&object);
                    self.report(change).await?;
                    object.meta().resource_version.clone()
                }
                WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
                WatchEvent::Error(status) => return Err(WatchError::Refused(status)),
            };
            self.got_events = true;
            self.move_to(version);
        }
    }

    /// All up to this version was reported.
    fn move_to(&mut self, version: Option<String>) {
        let version = version.filter(|version| !version.is_empty());
        self.resource_version = version.or(self.resource_version.take());
    }

    async fn report(&self, changes: impl IntoIterator<Item = Change>) -> Result<(), WatchError> {
        for change in changes {
            let sent = self.changes.send(change).await;
            sent.map_err(|_| WatchError::ReceiverDropped)?;
        }
        Ok(())
    }
}
