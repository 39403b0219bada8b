//! Events: what an operator should know of an object, reported at the object.
//!
//! ```text
//!  record ─► queue ─► correlator ─► writer ─► API server (events.k8s.io/v1)
//!           (bounded) (series, limits)
//! ```
//!
//! Recording never waits and nothing here grows: where the queue is full or the limits
//! are reached an Event is not sent. All of them are in the log too.

mod correlator;
mod event;
mod writer;

use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::debug;

use crate::source::kube::{KubeSettings, RequestMetrics};

pub use event::{Event, EventType, Regarding};
pub use writer::RecorderPolicy;

/// Events that may wait to be sent.
const WAITING: usize = 256;

/// An Event that happened.
#[derive(Debug)]
struct Recorded {
    event: Event,
    /// When, for the object.
    time: SystemTime,
    /// When, for the limits.
    at: Instant,
}

/// Takes Events.
#[derive(Clone, Debug)]
pub struct Recorder(Option<mpsc::Sender<Recorded>>);

impl Recorder {
    /// A recorder that sends nothing: there is no API server.
    pub fn off() -> Self {
        Self(None)
    }

    /// A recorder that sends Events to an API server, in the name of a node's agent.
    pub fn start(settings: KubeSettings, node_name: &str, requests: RequestMetrics) -> Self {
        Self::start_with_policy(settings, node_name, requests, RecorderPolicy::default())
    }

    /// [`Self::start`] with another patience than the default one.
    pub fn start_with_policy(
        settings: KubeSettings,
        node_name: &str,
        requests: RequestMetrics,
        pace: RecorderPolicy,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        tokio::spawn(writer::write(
            settings,
            node_name.to_owned(),
            requests,
            pace,
            receiver,
        ));
        Self(Some(sender))
    }

    /// Sends an Event if there is room.
    pub fn record(&self, event: Event) {
        let Some(queue) = &self.0 else {
            return;
        };
        let recorded = Recorded {
            event,
            time: SystemTime::now(),
            at: Instant::now(),
        };
        if let Err(error) = queue.try_send(recorded) {
            debug!("an Event is not sent: {error}");
        }
    }
}
