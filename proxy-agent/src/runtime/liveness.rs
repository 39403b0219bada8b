//! Endpoints that do not answer: looks at what the data path has seen, and says which of them new
//! connections avoid.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxy_ebpf::layout::Counter;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::agent::Agent;
use crate::config::Unanswered;
use crate::maps::{KernelMaps, now};
use crate::model::desired::PortName;
use crate::model::object::Family;
use crate::plan::{Moment, Observed, Step, Suspects};

/// How often the data path is asked whether a connection was not answered.
const INTERVAL: Duration = Duration::from_millis(100);

/// A look at all endpoints takes no more than one part of this many of the time.
const PART: u32 = 20;

/// The endpoints that are suspect, and when they are looked at.
pub(super) struct LivenessWatch {
    interval: Interval,
    suspects: Suspects,
    /// Connections that were not answered, as they were counted last.
    retried: Option<u64>,
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
    pub(super) fn new() -> Self {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            interval,
            suspects: Suspects::default(),
            retried: None,
            round: 0,
            rests_until: Instant::now(),
        }
    }

    /// Returns when endpoints are to be looked at. Safe to cancel.
    pub(super) async fn next(&mut self) {
        self.interval.tick().await;
    }

    /// Looks at them, where there is news.
    pub(super) fn review(&mut self, agent: &mut Agent<KernelMaps>, mode: Unanswered) {
        let instant = Instant::now();
        let retried = agent.maps().counter(Counter::ConnectionRetried).ok();
        let has_news = retried != self.retried || !self.suspects.is_empty();
        let (Ok(tick), true) = (now(), has_news && instant >= self.rests_until) else {
            return;
        };
        self.retried = retried;
        self.round = self.round.wrapping_add(1);
        let found = self.look(agent, mode, Moment { instant, tick });
        for it in found {
            self.take(agent, &it);
        }
        agent.metrics().own.suspect_endpoints(self.suspects.len());
        self.rests_until = Instant::now() + PART * instant.elapsed();
    }

    fn look(&mut self, agent: &mut Agent<KernelMaps>, mode: Unanswered, now: Moment) -> Vec<Found> {
        let mut found = Vec::new();
        let mut there = HashSet::new();
        let mut instead_of = Vec::new();
        let (planner, maps) = agent.plan_and_maps();
        for (name, backends, sets) in planner.sets() {
            let observed: Vec<Observed> = backends
                .iter()
                .filter_map(|(_, index)| {
                    Some(Observed {
                        index: *index,
                        generation: planner.generation(name.family, *index),
                        liveness: maps.backend_liveness(name.family, *index).ok()?,
                    })
                })
                .collect();
            there.extend(observed.iter().map(|it| (name.family, it.index)));
            let steps = match mode {
                Unanswered::Avoid => self.suspects.review(name.family, &observed, now),
                Unanswered::Off | Unanswered::Retry => {
                    self.suspects.release_all(name.family, &observed)
                }
            };
            for it in &observed {
                if self.suspects.contains(name.family, it.index) {
                    let round = self.round.wrapping_add(it.index);
                    let instead = self.suspects.instead(name.family, sets, round);
                    instead_of.push((name.family, it.index, instead));
                }
            }
            found.extend(steps.into_iter().filter_map(|(position, step)| {
                let (endpoint, index) = backends.get(position)?;
                Some(Found {
                    port: name.clone(),
                    endpoint: endpoint.socket(),
                    index: *index,
                    step,
                })
            }));
        }
        self.suspects
            .retain(|family, index| there.contains(&(family, index)));
        for (family, index, instead) in instead_of {
            if let Err(error) = maps.set_instead(family, index, instead) {
                warn!("{:#}", anyhow::Error::from(error));
            }
        }
        found
    }

    fn take(&self, agent: &mut Agent<KernelMaps>, it: &Found) {
        let family: Family = it.port.family;
        let maps = agent.maps_mut();
        if let Err(error) = maps.set_liveness_state(family, it.index, it.step.state()) {
            warn!("{:#}", anyhow::Error::from(error));
            return;
        }
        let Found { port, endpoint, .. } = it;
        match it.step {
            Step::Avoid => {
                warn!(port = %port, %endpoint, "does not answer; new connections avoid it");
                agent.report_suspect(&port.service, *endpoint);
            }
            Step::Use => info!(port = %port, %endpoint, "is used again"),
            Step::Try => {}
        }
    }
}
