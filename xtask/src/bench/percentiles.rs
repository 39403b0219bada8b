//! Durations, summed up.

use std::time::Duration;

/// The middle and the end of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) count: usize,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Percentiles {
    /// By nearest rank: each is a value that occurred.
    pub(super) fn of(mut values: Vec<Duration>) -> Self {
        values.sort_unstable();
        let at = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            count: values.len(),
            p50: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let of = |last: u64| Percentiles::of((1..=last).map(Duration::from_millis).collect());
        let hundred = of(100);
        assert_eq!(hundred.p50, Duration::from_millis(50));
        assert_eq!(hundred.p99, Duration::from_millis(99));
        assert_eq!(hundred.max, Duration::from_millis(100));
        assert_eq!(of(1).p99, Duration::from_millis(1));
        assert_eq!(of(0), Percentiles::default());
    }
}
