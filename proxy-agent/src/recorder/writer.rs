//! Sends Events to the API server.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::correlator::{Decision, Due, EventCorrelator};
use super::event::Regarding;
use super::{Event, Recorded};
use crate::source::kube::{
    Backoff, Connection, KubeSettings, RequestMetrics, RetryPolicy, WatchError,
};

/// Who the Events are from.
const CONTROLLER: &str = "proxy-agent";

/// How patient the recorder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderPolicy {
    /// How often series that have grown are sent to the server.
    pub flush: Duration,
    /// How long it is tried to send an Event: after that it is of little use.
    pub retry_for: Duration,
    /// Waits between trials.
    pub server: RetryPolicy,
}

impl Default for RecorderPolicy {
    fn default() -> Self {
        Self {
            flush: Duration::from_mins(1),
            retry_for: Duration::from_mins(10),
            server: RetryPolicy::default(),
        }
    }
}

/// Sends what comes, one after another, until there are no recorders any more.
pub(super) async fn write(
    settings: KubeSettings,
    node_name: String,
    requests: RequestMetrics,
    pace: RecorderPolicy,
    mut queue: mpsc::Receiver<Recorded>,
) {
    let connection = match Connection::open(&settings, requests).await {
        Ok(connection) => connection,
        Err(error) => {
            warn!("Events are disabled: {:#}", anyhow::Error::from(error));
            return;
        }
    };
    let writer = Writer {
        connection,
        node_name,
        pace,
    };
    let mut correlator = EventCorrelator::new(Instant::now());
    let mut flush = interval(pace.flush);
    flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            recorded = queue.recv() => {
                let Some(recorded) = recorded else { return };
                match correlator.correlate(&recorded) {
                    Decision::Send => {
                        if let Some(name) = writer.create(&recorded).await {
                            correlator.sent(recorded, name);
                        }
                    }
                    Decision::Aggregated => {}
                    Decision::Discard => debug!("too many Events; left out: {:?}", recorded.event),
                }
            }
            _ = flush.tick() => {
                for due in correlator.due(Instant::now()) {
                    writer.count(&due).await;
                }
            }
        }
    }
}

struct Writer {
    connection: Connection,
    node_name: String,
    pace: RecorderPolicy,
}

impl Writer {
    /// Makes the object of an Event, and returns its name; `None` where that does not
    /// work, or nothing is there any more that it could be about.
    async fn create(&self, recorded: &Recorded) -> Option<String> {
        let mut backoff = Backoff::new(self.pace.server);
        loop {
            let error = match self
                .attempt(async |client| {
                    let Some(uid) = uid(&client, &recorded.event.regarding).await? else {
                        return Ok(None);
                    };
                    let object = self.object(recorded, uid);
                    let name = object.metadata.name.clone();
                    let namespace = recorded.event.regarding.namespace();
                    let api = Api::<v1::Event>::namespaced(client, namespace);
                    api.create(&PostParams::default(), &object).await?;
                    Ok(name)
                })
                .await
            {
                Ok(name) => return name,
                Err(error) => error,
            };
            let regarding = &recorded.event.regarding;
            if !error.is_retryable() || recorded.at.elapsed() > self.pace.retry_for {
                warn!("an Event of {:?} is not sent: {error}", regarding.name());
                return None;
            }
            debug!("an Event of {:?} waits: {error}", regarding.name());
            sleep(backoff.next()).await;
        }
    }

    /// Sends the count of a series; where that does not work, the next count will be sent.
    async fn count(&self, due: &Due) {
        let patch = json!({"series": {
            "count": due.count,
            "lastObservedTime": micro_time(due.last_time),
        }});
        let outcome = self.attempt(async |client| {
            let api = Api::<v1::Event>::namespaced(client, &due.namespace);
            api.patch(&due.name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .map(drop)
        });
        if let Err(error) = outcome.await {
            debug!("the Event {} is not counted: {error}", due.name);
        }
    }

    /// One trial, within the time for an answer.
    async fn attempt<T>(
        &self,
        request: impl AsyncFnOnce(kube::Client) -> kube::Result<T>,
    ) -> Result<T, WatchError> {
        let (client, number) = self.connection.client();
        let answer = self.pace.server.answer;
        let error = match timeout(answer, request(client)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => WatchError::from(error),
            Err(_) => WatchError::Silent(answer),
        };
        if error.may_be_stale_credentials() {
            self.connection.renew(number).await;
        }
        Err(error)
    }

    fn object(&self, recorded: &Recorded, uid: String) -> v1::Event {
        let Recorded { event, time, .. } = recorded;
        let Event {
            regarding,
            event_type,
            reason,
            action,
            note,
        } = event;
        // As client-go names them: the object, and the time in hexadecimal.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{}.{:x}", regarding.name(), since.as_nanos());
        v1::Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(regarding.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            event_time: micro_time(*time),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.node_name.clone()),
            regarding: Some(regarding.reference(uid)),
            type_: Some(event_type.as_str().to_owned()),
            reason: Some((*reason).to_owned()),
            action: Some((*action).to_owned()),
            note: Some(note.clone()),
            ..v1::Event::default()
        }
    }
}

/// The id by which `kubectl describe` finds an object's Events: the model does not keep
/// it. That of a Node is its name, as the kubelet has it. `None` where the object is
/// gone.
async fn uid(client: &kube::Client, regarding: &Regarding) -> kube::Result<Option<String>> {
    match regarding {
        Regarding::Node(name) => Ok(Some(name.clone())),
        Regarding::Service(name) => {
            let api = Api::<Service>::namespaced(client.clone(), &name.namespace);
            let found = api.get_metadata_opt(&name.name).await?;
            Ok(found.map(|found| found.metadata.uid.unwrap_or_default()))
        }
    }
}

fn micro_time(time: SystemTime) -> Option<MicroTime> {
    Timestamp::try_from(time).ok().map(MicroTime)
}
