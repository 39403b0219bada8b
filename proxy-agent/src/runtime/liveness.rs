//! Endpoints that do not answer: looks at what the data path has seen, and says which of them new
//! connections avoid.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use proxy_ebpf::layout::Counter;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::maps::{Counters, KernelMaps, MapError, now};
use crate::model::desired::PortName;
use crate::model::object::Unanswered;
use crate::plan::{Moment, Observed, Planner, PortSets, Step, Suspects};

/// How often the data path is asked whether a connection was not answered, and endpoints are
/// looked at while one is suspect.
const INTERVAL: Duration = Duration::from_millis(100);

/// A look at all endpoints takes no more than one part of this many of the time.
const PART: u32 = 20;

/// The endpoints that are suspect, and when they are looked at.
pub(super) struct LivenessWatch {
    interval: Interval,
    suspects: Suspects,
    unanswered: UnansweredCount,
    /// The count when endpoints were looked at last.
    seen: Option<u64>,
    /// The last look has left some endpoint for the next one to decide.
    is_in_doubt: bool,
    /// Looks so far.
    round: u32,
    /// Not before this time are all endpoints looked at again.
    rests_until: Instant,
}

/// What a look has found to do.
struct Found {
    port: PortName,
    endpoint: SocketAddr,
    index: u32,
    step: Step,
}

impl LivenessWatch {
    pub(super) fn new(unanswered: UnansweredCount) -> Self {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            interval,
            suspects: Suspects::default(),
            unanswered,
            seen: None,
            is_in_doubt: false,
            round: 0,
            rests_until: Instant::now(),
        }
    }

    /// Returns when endpoints are to be looked at. Safe to cancel.
    pub(super) async fn next(&mut self) {
        let unanswered = *self.unanswered.now.borrow_and_update();
        if self.has_news(unanswered) || self.unanswered.now.changed().await.is_err() {
            self.interval.tick().await;
        }
    }

    /// Says whether any Service avoids endpoints. Where none does nothing is counted.
    pub(super) fn set_wanted(&self, avoids: bool) {
        self.unanswered.is_wanted.store(avoids, Ordering::Relaxed);
    }

    /// Looks at them, where there is news. `mode` is for Services that do not say themselves.
    pub(super) fn review(&mut self, agent: &mut Agent<KernelMaps>, mode: Unanswered) {
        let instant = Instant::now();
        // Before that it is not known whose the backends are that an agent has left.
        if !agent.is_programmed() || instant < self.rests_until {
            return;
        }
        let unanswered = *self.unanswered.now.borrow();
        let (Ok(tick), true) = (now(), self.has_news(unanswered)) else {
            return;
        };
        self.seen = Some(unanswered);
        self.round = self.round.wrapping_add(1);
        let found = self.look(agent, mode, Moment { instant, tick });
        for it in found {
            take(agent, &it);
        }
        agent.metrics().own.suspect_endpoints(self.suspects.len());
        self.rests_until = Instant::now() + PART * instant.elapsed();
    }

    /// Whether a look may find something: the first one what an agent before has left avoided,
    /// others only after one was unanswered, or while an endpoint is suspect, or may become so.
    fn has_news(&self, unanswered: u64) -> bool {
        self.seen != Some(unanswered) || self.is_in_doubt || !self.suspects.is_empty()
    }

    fn look(&mut self, agent: &mut Agent<KernelMaps>, mode: Unanswered, now: Moment) -> Vec<Found> {
        let mut found = Vec::new();
        let mut there = HashSet::new();
        let mut instead = Vec::new();
        self.is_in_doubt = false;
        let (planner, maps) = agent.plan_and_maps();
        for port in planner.sets() {
            let family = port.name.family;
            let observed = observe(port, planner, maps);
            there.extend(observed.iter().map(|it| (family, it.index)));
            let steps = match port.unanswered.unwrap_or(mode) {
                Unanswered::Avoid => {
                    let steps = self.suspects.review(family, &observed, now);
                    self.is_in_doubt |= self.suspects.may_become_more(family, &observed, now.tick);
                    steps
                }
                Unanswered::Off | Unanswered::Retry => self.suspects.release(family, &observed),
            };
            let indices = observed.iter().map(|it| it.index);
            instead.extend(
                indices
                    .filter(|index| self.suspects.contains(family, *index))
                    .map(|index| (family, index, self.instead_of(port, index))),
            );
            found.extend(steps.into_iter().filter_map(|(position, step)| {
                let (endpoint, index) = port.backends.get(position)?;
                Some(Found {
                    port: port.name.clone(),
                    endpoint: endpoint.socket(),
                    index: *index,
                    step,
                })
            }));
        }
        self.suspects
            .retain(|family, index| there.contains(&(family, index)));
        for (family, index, instead) in instead {
            warn_of(maps.set_instead(family, index, instead));
        }
        found
    }

    fn instead_of(&self, port: PortSets<'_>, index: u32) -> [u32; 4] {
        let round = self.round.wrapping_add(index);
        self.suspects.instead(port.name.family, port.sets, round)
    }
}

/// The backends of a port, as the data path has seen them.
fn observe(port: PortSets<'_>, planner: &Planner, maps: &mut KernelMaps) -> Vec<Observed> {
    let family = port.name.family;
    let indices = port.backends.iter().map(|(_, index)| *index);
    indices
        .map(|index| Observed {
            index,
            generation: planner.generation(family, index),
            liveness: maps.backend_liveness(family, index).unwrap_or_default(),
        })
        .collect()
}

/// Does what was found to do.
fn take(agent: &mut Agent<KernelMaps>, it: &Found) {
    let Found {
        port,
        endpoint,
        index,
        step,
    } = it;
    let maps = agent.maps_mut();
    warn_of(maps.set_liveness_state(port.family, *index, step.state()));
    match step {
        Step::Avoid => {
            warn!(%port, %endpoint, "does not answer; new connections avoid it");
            agent.report_suspect(&port.service, *endpoint);
        }
        Step::Use => info!(%port, %endpoint, "is used again"),
        Step::Try => {}
    }
}

/// Connections and flows that were not answered, as the data path counts them.
pub(super) struct UnansweredCount {
    now: watch::Receiver<u64>,
    is_wanted: Arc<AtomicBool>,
}

impl UnansweredCount {
    /// Reads the counters ten times a second while that is wanted: by a thread of its own, since a
    /// sleep costs much less than a timer of the runtime does.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(super) fn start(counters: Counters) -> io::Result<Self> {
        const COUNTED: [Counter; 2] = [Counter::ConnectionRetried, Counter::FlowUnreachable];
        let (sender, now) = watch::channel(0);
        let is_wanted = Arc::new(AtomicBool::new(true));
        let wants = Arc::clone(&is_wanted);
        let count = move || {
            while !sender.is_closed() {
                if wants.load(Ordering::Relaxed) {
                    let values = COUNTED.map(|it| counters.get(it).ok()).into_iter();
                    let sum: Option<u64> = values.sum();
                    sender.send_if_modified(|known| {
                        let next = sum.unwrap_or(*known);
                        std::mem::replace(known, next) != next
                    });
                }
                thread::sleep(INTERVAL);
            }
        };
        thread::Builder::new()
            .name("liveness".into())
            .spawn(count)?;
        Ok(Self { now, is_wanted })
    }
}

/// A write that failed is made again at the next look.
fn warn_of(written: Result<(), MapError>) {
    if let Err(error) = written {
        warn!("{:#}", anyhow::Error::from(error));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn without_suspects_endpoints_are_looked_at_after_a_retry_only() {
        let (sender, now) = watch::channel(0);
        let unanswered = UnansweredCount {
            now,
            is_wanted: Arc::default(),
        };
        let mut watch = LivenessWatch::new(unanswered);
        // An agent before may have left some avoided.
        watch.next().await;
        watch.seen = Some(0);
        assert!(watch.next().now_or_never().is_none());

        watch.is_in_doubt = true;
        watch.next().await;
        watch.is_in_doubt = false;
        sender.send_replace(1);
        watch.next().await;
        watch.seen = Some(1);
        assert!(watch.next().now_or_never().is_none());
    }
}
