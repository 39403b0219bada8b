//! Rounds of programming, summed up for the log: in a large cluster there are several a second.

use std::time::{Duration, Instant};

use tracing::{debug, info};

/// The least time between two summaries.
const PAUSE: Duration = Duration::from_mins(1);

/// What one or more rounds did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Work {
    rounds: usize,
    ports: usize,
    writes: u64,
}

/// What is to be summed up.
#[derive(Debug, Default)]
pub(super) struct Summary {
    work: Work,
    last: Option<Instant>,
}

impl Summary {
    /// A round has looked at so many ports and made so many writes; so many ports are served.
    pub(super) fn add(&mut self, ports: usize, writes: u64, served: usize) {
        debug!(ports, writes, served, "programmed");
        self.work.rounds += 1;
        self.work.ports += ports;
        self.work.writes += writes;
        self.log(served);
    }

    /// Logs what was not logged yet, if it is time.
    pub(super) fn log(&mut self, served: usize) {
        if let Some(work) = self.take(Instant::now()) {
            let Work {
                rounds,
                ports,
                writes,
            } = work;
            info!(rounds, ports, writes, served, "rounds of programming");
        }
    }

    fn take(&mut self, now: Instant) -> Option<Work> {
        let is_early = self.last.is_some_and(|last| now < last + PAUSE);
        if is_early || self.work == Work::default() {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.work))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_is_logged_at_once_and_then_a_minutes_rounds_together() {
        let mut summary = Summary::default();
        let now = Instant::now();
        assert_eq!(summary.take(now), None);
        summary.work.rounds = 1;
        assert_eq!(summary.take(now).map(|work| work.rounds), Some(1));
        summary.work.rounds = 3;
        assert_eq!(summary.take(now + Duration::from_secs(59)), None);
        let later = now + Duration::from_mins(1);
        assert_eq!(summary.take(later).map(|work| work.rounds), Some(3));
        assert_eq!(summary.take(later + PAUSE), None);
    }
}
