//! What became of the connections of one client, in figures.

use std::time::Duration;

use super::{
    super::{percentiles::Percentiles, workload::Attempt},
    DARK, LIGHT, Run, SURPRISE,
    services::dark_endpoint,
};

/// A SYN is sent again after a second (RFC 6298, 2.1); such a connection takes no less.
const SENT_AGAIN: Duration = Duration::from_millis(900);

/// The figures of a row.
pub(super) struct Summary {
    pub(super) variant: &'static str,
    pub(super) client: String,
    /// `connect` before the cut.
    pub(super) before: Percentiles,
    /// Connections begun while the node was dark, and how many had no answer in time.
    pub(super) dark: usize,
    pub(super) failed: usize,
    /// When each of these began, and why it failed.
    pub(super) failures: Vec<String>,
    /// `connect` in the first two seconds, of those that were answered.
    pub(super) at_first: Percentiles,
    /// The same from then on, until the node is back.
    pub(super) later: Percentiles,
    /// Connections from then on that failed or whose SYN had to be sent again; of how many.
    pub(super) touched: usize,
    pub(super) later_count: usize,
    /// From when the node is back to the first connection that it answers.
    pub(super) back: Option<Duration>,
}

impl Summary {
    pub(super) fn of(run: &Run) -> Self {
        let between = |from: Duration, to: Duration| {
            let attempts = run.attempts.iter();
            attempts.filter(move |it| it.began >= from && it.began < to)
        };
        let connects =
            |from, to| Percentiles::of(between(from, to).filter_map(|it| it.took).collect());
        let later = || between(DARK + SURPRISE, LIGHT);
        let was_touched = |it: &&Attempt| it.took.is_none_or(|took| took > SENT_AGAIN);
        let dark_endpoint = dark_endpoint();
        let is_back =
            |it: &&Attempt| it.began >= LIGHT && it.by.as_deref() == Some(&*dark_endpoint);
        let back = run.attempts.iter().filter(is_back);
        let failures: Vec<_> = between(DARK, LIGHT)
            .filter_map(|it| {
                let failure = it.failure.as_deref()?;
                Some(format!("at {:.3} s: {failure}", it.began.as_secs_f64()))
            })
            .collect();
        Self {
            variant: run.variant.name(),
            client: run.client.to_string(),
            before: connects(Duration::ZERO, DARK),
            dark: between(DARK, LIGHT).count(),
            failed: failures.len(),
            failures,
            at_first: connects(DARK, DARK + SURPRISE),
            later: connects(DARK + SURPRISE, LIGHT),
            touched: later().filter(was_touched).count(),
            later_count: later().count(),
            back: back.map(|it| it.began.saturating_sub(LIGHT)).min(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proxy_tests::lab::Family;

    use super::super::{Client, Variant, clients::Place, services::Choice};
    use super::*;

    #[test]
    fn connections_count_where_they_began() {
        let attempt = |began: u64, took: Option<u64>, by: &str| Attempt {
            began: Duration::from_millis(began),
            took: took.map(Duration::from_millis),
            by: took.map(|_| by.to_owned()),
            failure: took.is_none().then(|| "connect: timed out".to_owned()),
        };
        let run = Run {
            variant: Variant::Tc,
            client: Client::new(Place::Pod, Family::V4, Choice::Random),
            attempts: vec![
                attempt(100, Some(1), "pod-2-1"),
                attempt(3100, Some(1010), "pod-1-1"),
                attempt(3200, None, ""),
                attempt(6000, Some(2), "pod-1-2"),
                attempt(7000, Some(1020), "pod-1-2"),
                attempt(23_500, Some(1), "pod-1-1"),
                attempt(25_000, Some(1), "pod-2-1"),
            ],
        };
        let found = Summary::of(&run);
        assert_eq!((found.dark, found.failed), (4, 1));
        assert_eq!(found.failures, ["at 3.200 s: connect: timed out"]);
        assert_eq!((found.touched, found.later_count), (1, 2));
        assert_eq!(found.at_first.p99, Duration::from_millis(1010));
        assert_eq!(found.back, Some(Duration::from_secs(2)));
    }
}
