//! When to ask again, and when to give up waiting.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

/// How patient the source is with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// About how long a watch runs before it is begun anew where it stopped. The
    /// server ends it; where it does not, [`Self::grace`] later it is given up.
    /// Between a quarter less and a quarter more, so that the watches of many nodes
    /// do not end together.
    pub watch: Duration,
    /// How much later than asked for the server may end a watch.
    pub grace: Duration,
    /// The longest wait for an answer: a page of a list, the beginning of a watch,
    /// the next object of a list that comes as a watch. As long as the API server
    /// itself gives a request (`--request-timeout`).
    pub answer: Duration,
    /// The first wait after an error; each wait without success is twice as long.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// A watch that ran this long was a success, whatever it brought.
    pub settled: Duration,
    /// How often a server that does not have an optional kind of object is asked whether
    /// it has by now, being a newer one.
    pub absent: Duration,
    /// Objects in a page of a list; client-go's number.
    pub page: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            watch: Duration::from_mins(4),
            grace: Duration::from_secs(10),
            answer: Duration::from_mins(1),
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            settled: Duration::from_secs(10),
            absent: Duration::from_mins(30),
            page: 500,
        }
    }
}

impl RetryPolicy {
    /// How long to wait before a server is asked again for what it does not have; its
    /// upper half is left to chance.
    pub(super) fn next_discovery(&self) -> Duration {
        self.absent.mul_f64(0.5 + random() / 2.0)
    }

    /// How long the next watch shall run, in whole seconds and at least one, for
    /// zero means to the API server that it shall choose.
    pub(super) fn watch_seconds(&self) -> u32 {
        let time = self.watch.mul_f64(0.75 + random() / 2.0);
        u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1)
    }
}

/// Waits that grow while nothing succeeds.
#[derive(Debug)]
pub(crate) struct Backoff {
    pace: RetryPolicy,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(pace: RetryPolicy) -> Self {
        Self { pace, failures: 0 }
    }

    /// Something succeeded.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait: its upper half is left to chance, so that nodes which lost
    /// the server together do not come back together.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        let most = self.pace.first_wait.saturating_mul(doubled);
        most.min(self.pace.longest_wait)
            .mul_f64(0.5 + random() / 2.0)
    }
}

/// A number in 0..1. The keys of the standard library's hash maps are random.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    let high = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_success() {
        let pace = RetryPolicy::default();
        let mut backoff = Backoff::new(pace);
        for round in 0..2 {
            let mut most = pace.first_wait;
            for failure in 0..100 {
                let wait = backoff.next();
                assert!(wait <= most, "{round} {failure}: {wait:?}");
                assert!(wait >= most / 2, "{round} {failure}: {wait:?}");
                most = (most * 2).min(pace.longest_wait);
            }
            backoff.reset();
        }
    }

    #[test]
    fn waits_and_watches_are_spread() {
        let pace = RetryPolicy::default();
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|_| Backoff::new(pace).next()).collect();
        assert!(waits.len() > 50, "{} of 100 differ", waits.len());
        let all: Vec<_> = (0..100).map(|_| pace.watch_seconds()).collect();
        assert!(all.iter().all(|seconds| (180..=300).contains(seconds)));
        assert!(all.iter().any(|seconds| *seconds != all[0]));
    }

    #[test]
    fn a_watch_is_never_asked_to_run_for_no_time() {
        let pace = RetryPolicy {
            watch: Duration::from_millis(10),
            ..RetryPolicy::default()
        };
        assert_eq!(pace.watch_seconds(), 1);
    }
}
