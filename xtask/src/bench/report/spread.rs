//! Repeated runs, summed up.

use serde::{Deserialize, Serialize};

/// The median of some runs, and how far they are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Spread {
    pub(in super::super) runs: usize,
    pub(in super::super) min: f64,
    pub(in super::super) p25: f64,
    pub(in super::super) median: f64,
    pub(in super::super) p75: f64,
    pub(in super::super) max: f64,
}

impl Spread {
    /// Quantiles between two values are on the line between them (R's type 7). None of no
    /// values.
    pub(in super::super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quarters: usize| {
            let place = (sorted.len() - 1) * quarters;
            let (below, rest) = (place / 4, place % 4);
            let above = (below + 1).min(sorted.len() - 1);
            let part = f64::from(u8::try_from(rest).unwrap_or_default()) / 4.0;
            (sorted[above] - sorted[below]).mul_add(part, sorted[below])
        };
        (!sorted.is_empty()).then(|| Self {
            runs: sorted.len(),
            min: at(0),
            p25: at(1),
            median: at(2),
            p75: at(3),
            max: at(4),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.runs, spread.min, spread.max), (4, 1.0, 4.0));
        assert_eq!((spread.p25, spread.median, spread.p75), (1.75, 2.5, 3.25));
        assert_eq!(
            Spread::of(&[7.0]).unwrap().median.to_bits(),
            7.0_f64.to_bits()
        );
        assert_eq!(Spread::of(&[]), None);
    }
}
