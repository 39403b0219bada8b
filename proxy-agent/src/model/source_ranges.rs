//! `spec.loadBalancerSourceRanges`: who may use a Service's load balancer addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::object::{Family, Service};
use super::parse::parse_range;
use super::warning::WarningReason;

/// The ranges of each family; everybody may use the addresses of one that has none.
///
/// As in kube-proxy, ranges say nothing of the other family: its addresses are open, which is
/// worth a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SourceRanges([Option<Box<[IpNet]>>; 2]);

impl SourceRanges {
    /// Those of a Service with these load balancer addresses.
    pub(super) fn new(
        service: &Service,
        balancer_ips: impl Iterator<Item = IpAddr>,
        warnings: &mut Vec<WarningReason>,
    ) -> Self {
        if service.source_ranges.is_empty() || service.load_balancer_ips.is_empty() {
            return Self::default();
        }
        let mut ranges = Vec::with_capacity(service.source_ranges.len());
        let mut is_readable = true;
        for text in &service.source_ranges {
            if let Some(range) = parse_range(text.trim()) {
                ranges.push(range);
            } else {
                is_readable = false;
                warnings.push(WarningReason::NotARange { text: text.clone() });
            }
        }
        ranges.sort_unstable();
        ranges.dedup();
        let this = Self(Family::ALL.map(|family| of_family(&ranges, family, is_readable)));
        if this.0.iter().any(Option::is_some) {
            let open = balancer_ips.filter(|address| {
                let family = Family::of(*address);
                this.of(family).is_none()
                    && !ranges.iter().any(|it| Family::of(it.addr()) == family)
            });
            warnings.extend(open.map(|address| WarningReason::NoSourceRange { address }));
        }
        this
    }

    /// Those of a family, if not everybody may use its addresses.
    pub(super) fn of(&self, family: Family) -> Option<&[IpNet]> {
        self.0[family as usize].as_deref()
    }
}

/// A range of length zero lets in everybody. Where a text is none, it may have been meant for
/// this family.
fn of_family(ranges: &[IpNet], family: Family, is_readable: bool) -> Option<Box<[IpNet]>> {
    let of_family = ranges.iter().filter(|it| Family::of(it.addr()) == family);
    let of_family: Box<[IpNet]> = of_family.copied().collect();
    let is_open = match &*of_family {
        [] => is_readable,
        ranges => ranges.iter().any(|range| range.prefix_len() == 0),
    };
    (!is_open).then_some(of_family)
}
