//! Which endpoints new connections avoid, because they do not answer: a pure function of what the
//! data path has seen, and of time.
//!
//! An endpoint is *suspect* that has left some connections unanswered since it answered last, while
//! others of its Service port answer. It is tried again by one connection at a time, ever more
//! seldom; one answer ends the suspicion. Where too many endpoints of a port would be suspect, all
//! are used: then rather the network is at fault, or this node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proxy_ebpf::layout::{Liveness, liveness_state, ticks};

use crate::model::object::Family;

/// Connections without an answer that make an endpoint suspect.
const UNANSWERED: u32 = 3;

/// What is older says nothing of now.
const RECENT: u32 = ticks::from_seconds(60);

/// Others answer that have done so within this time.
const OTHERS_ANSWERED: u32 = ticks::from_seconds(3);

/// The time to the first trial; it doubles with each that is not answered.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two trials.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// 2^32 by the golden ratio: multiples of it are spread over all numbers.
const GOLDEN: u32 = 0x9e37_79b9;

/// A part of this many of a port's endpoints may be suspect, at most.
const PART: usize = 2;

/// A backend of a Service port, as the data path has seen it.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// Its index.
    pub index: u32,
    /// Its generation.
    pub generation: u32,
    /// Whether it answers.
    pub liveness: Liveness,
}

/// When something is looked at, by two clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// This process's.
    pub instant: Instant,
    /// The data path's, in [`ticks`].
    pub tick: u32,
}

/// What becomes of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It is avoided from now on.
    Avoid,
    /// The next connection tries whether it answers.
    Try,
    /// It is used again.
    Use,
}

impl Step {
    /// The state that the data path is to see, of [`liveness_state`].
    pub const fn state(self) -> u32 {
        match self {
            Self::Avoid => liveness_state::AVOIDED,
            Self::Try => liveness_state::TRIAL,
            Self::Use => liveness_state::USED,
        }
    }
}

/// The endpoints that are suspect.
#[derive(Debug, Default)]
pub struct Suspects {
    all: HashMap<(Family, u32), Suspect>,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    generation: u32,
    next_trial: Instant,
    pause: Duration,
}

impl Suspect {
    fn new(generation: u32, now: Instant) -> Self {
        Self {
            generation,
            next_trial: now + FIRST_PAUSE,
            pause: FIRST_PAUSE,
        }
    }
}

impl Observed {
    /// What is known of its present life.
    fn current(&self) -> Liveness {
        if self.liveness.generation == self.generation {
            self.liveness
        } else {
            Liveness::default()
        }
    }

    fn is_unanswered(&self, tick: u32) -> bool {
        let liveness = self.current();
        liveness.unanswered >= UNANSWERED
            && is_recent(liveness, tick)
            && (liveness.answered_at == 0 || liveness.answered_at != tick)
    }

    fn is_avoided(&self) -> bool {
        self.current().state != liveness_state::USED
    }

    fn has_answered(&self, tick: u32) -> bool {
        let answered_at = self.current().answered_at;
        answered_at != 0 && tick.wrapping_sub(answered_at) <= OTHERS_ANSWERED
    }
}

/// Whether the last connection without an answer says something of now.
fn is_recent(liveness: Liveness, tick: u32) -> bool {
    tick.wrapping_sub(liveness.unanswered_at) <= RECENT
}

impl Suspects {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether a backend is suspect.
    pub fn contains(&self, family: Family, index: u32) -> bool {
        self.all.contains_key(&(family, index))
    }

    /// Where connections go in the place of one that is suspect, as the data path has it
    /// (`Liveness::instead`): two of each set, others in each `round`, so that all of the set share
    /// them.
    pub fn instead(&self, family: Family, sets: [&[u32]; 2], round: u32) -> [u32; 4] {
        let one = |set: &[u32], number: u32| -> u32 {
            let start = round
                .wrapping_mul(GOLDEN)
                .wrapping_add(number.wrapping_mul(GOLDEN / 2));
            let start = start as usize % set.len().max(1);
            let mut all = set[start..].iter().chain(&set[..start]);
            let found = all.find(|index| !self.contains(family, **index));
            found.map_or(0, |index| index + 1)
        };
        let [cluster, local] = sets;
        [
            one(cluster, 0),
            one(cluster, 1),
            one(local, 0),
            one(local, 1),
        ]
    }

    /// Forgets those of backends that are not there any more.
    pub fn retain(&mut self, is_there: impl Fn(Family, u32) -> bool) {
        self.all
            .retain(|(family, index), _| is_there(*family, *index));
    }

    /// Nothing is suspect any more; what is to be done, by the position in `port`.
    pub fn release(&mut self, family: Family, port: &[Observed]) -> Vec<(usize, Step)> {
        let all = port.iter().enumerate();
        all.filter_map(|(position, it)| {
            let step = self.use_again((family, it.index), it)?;
            Some((position, step))
        })
        .collect()
    }

    /// Looks at all backends of a Service port; what is to be done, by the position in `port`.
    pub fn review(&mut self, family: Family, port: &[Observed], now: Moment) -> Vec<(usize, Step)> {
        let would_be = port
            .iter()
            .filter(|it| it.is_avoided() || it.is_unanswered(now.tick))
            .count();
        let others_answer = port
            .iter()
            .any(|it| !it.is_unanswered(now.tick) && it.has_answered(now.tick));
        let is_whole = would_be * PART > port.len();
        let mut steps = Vec::new();
        for (position, it) in port.iter().enumerate() {
            let key = (family, it.index);
            if self
                .all
                .get(&key)
                .is_some_and(|known| known.generation != it.generation)
            {
                self.all.remove(&key);
            }
            let step = if is_whole {
                self.use_again(key, it)
            } else {
                self.step(key, it, others_answer, now)
            };
            steps.extend(step.map(|step| (position, step)));
        }
        steps
    }

    /// Whether the next review of a Service port may find one suspect that this one did not: it has
    /// answered in this very second, or the others' answers have still to come.
    pub fn may_become_more(&self, family: Family, port: &[Observed], tick: u32) -> bool {
        port.iter().any(|it| {
            let liveness = it.current();
            liveness.unanswered >= UNANSWERED
                && tick.wrapping_sub(liveness.unanswered_at) <= OTHERS_ANSWERED
                && !self.contains(family, it.index)
        })
    }

    /// All are used.
    fn use_again(&mut self, key: (Family, u32), it: &Observed) -> Option<Step> {
        let was_suspect = self.all.remove(&key).is_some();
        (was_suspect || it.is_avoided()).then_some(Step::Use)
    }

    fn step(
        &mut self,
        key: (Family, u32),
        it: &Observed,
        others_answer: bool,
        now: Moment,
    ) -> Option<Step> {
        let Some(suspect) = self.all.get_mut(&key) else {
            // One that is avoided was suspect for the agent before.
            let is_news = it.is_unanswered(now.tick) && others_answer;
            if !is_news && !it.is_avoided() {
                return None;
            }
            self.all
                .insert(key, Suspect::new(it.generation, now.instant));
            return Some(Step::Avoid);
        };
        let liveness = it.current();
        let is_answered = liveness.unanswered == 0 && liveness.state == liveness_state::USED;
        // Nobody has found it so for long: perhaps only sockets connect, whose answers not every kernel
        // tells.
        if is_answered || !is_recent(liveness, now.tick) {
            self.all.remove(&key);
            return Some(Step::Use);
        }
        if liveness.state == liveness_state::USED {
            // A program has written over it.
            return Some(Step::Avoid);
        }
        if liveness.state == liveness_state::AVOIDED && now.instant >= suspect.next_trial {
            suspect.pause = (2 * suspect.pause).min(LONGEST_PAUSE);
            suspect.next_trial = now.instant + suspect.pause;
            return Some(Step::Try);
        }
        None
    }
}

#[cfg(test)]
mod tests;
