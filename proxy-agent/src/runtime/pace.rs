//! When changes are programmed: as they come, or not more often than is configured.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Keeps rounds of programming `minSyncPeriod` apart.
#[derive(Debug)]
pub(super) struct SyncPacer {
    period: Duration,
    last: Option<Instant>,
    is_requested: bool,
}

impl SyncPacer {
    /// No round yet, and none requested.
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            last: None,
            is_requested: false,
        }
    }

    /// Sets the least time between two rounds.
    pub(super) fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    /// Requests a round as soon as one may be.
    pub(super) fn request(&mut self) {
        self.is_requested = true;
    }

    /// Returns when a round is requested and may be. Safe to cancel.
    pub(super) async fn next(&self) {
        if !self.is_requested {
            return std::future::pending().await;
        }
        let next = self.last.and_then(|last| last.checked_add(self.period));
        if let Some(next) = next.filter(|next| *next > Instant::now()) {
            sleep_until(next).await;
        }
    }

    /// Notes a round; one in which there was nothing to do does not count.
    pub(super) fn done(&mut self, had_work: bool) {
        self.is_requested = false;
        if had_work {
            self.last = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    /// How long it takes until a round is due.
    async fn wait(pace: &SyncPacer) -> Duration {
        let start = Instant::now();
        pace.next().await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_with_work_are_a_period_apart() {
        let mut pace = SyncPacer::new(PERIOD);
        pace.request();
        assert_eq!(wait(&pace).await, Duration::ZERO);
        pace.done(false);
        pace.request();
        assert_eq!(wait(&pace).await, Duration::ZERO);
        pace.done(true);
        pace.request();
        assert_eq!(wait(&pace).await, PERIOD);
        pace.set_period(Duration::ZERO);
        assert_eq!(wait(&pace).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_due_that_is_not_requested() {
        let pace = SyncPacer::new(Duration::ZERO);
        let due = tokio::time::timeout(Duration::from_hours(1), pace.next());
        assert!(due.await.is_err());
    }
}
