//! How long a connection takes to open.

use super::super::super::report::{Goal, Row};
use super::better;

pub(super) const ABOUT: (&str, &str) = (
    "First packet",
    "From SYN to SYN-ACK: the time of `connect` in the runs of \"Connect, request, close\". It \
     has the decision for an endpoint in it, and for rules all comparisons until one is found.",
);

/// By how much the median may differ between few and many Services, to be called flat.
const FLAT: f64 = 1.1;

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let below = |aspect: &str| {
        better(
            &format!("{aspect} below nftables at every N"),
            rows,
            aspect,
            &["TC", "socket"],
            &["nftables"],
            false,
        )
    };
    let flat = |variant| flat(rows, variant);
    [below("p50"), below("p99"), flat("TC"), flat("socket")]
        .into_iter()
        .flatten()
        .collect()
}

/// The largest median of all N is little more than the smallest. By the ratios to the
/// limit, since labs of different N are measured one after the other.
fn flat(rows: &[Row], variant: &str) -> Option<Goal> {
    let is_ours = |row: &&Row| row.variant == variant && row.aspect == "p50";
    let ours = || {
        rows.iter()
            .filter(is_ours)
            .filter(|row| row.position.is_some())
    };
    let sizes: std::collections::BTreeSet<_> = ours().map(|row| row.services).collect();
    let medians = || ours().filter_map(|row| row.of_limit.map(|it| it.median));
    let quotient = medians().reduce(f64::max)? / medians().reduce(f64::min)?;
    (sizes.len() > 1).then(|| Goal {
        text: format!("{variant}: p50 of limit differs by less than {FLAT} times over N"),
        found: format!("{quotient:.2}"),
        met: quotient < FLAT,
    })
}
