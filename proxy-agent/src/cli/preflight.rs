//! What to warn of before the agent starts.

use std::fs;

use tracing::warn;

use crate::config::PortRange;

const EPHEMERAL_PORTS: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Warns where the host's own sockets may be given ports of the NAT range: a
/// socket's connection to a backend could then share a flow's translated tuple.
pub(super) fn warn_of_port_overlap(nat: PortRange) {
    let Some(ephemeral) = fs::read_to_string(EPHEMERAL_PORTS)
        .ok()
        .and_then(|text| parse(&text))
    else {
        return;
    };
    if nat.first <= ephemeral.last && ephemeral.first <= nat.last {
        warn!(
            "the NAT range {nat} overlaps with the host's ephemeral ports {ephemeral}: \
             set --nat-ports, or net.ipv4.ip_local_port_range, so that they do not"
        );
    }
}

/// The two numbers of `ip_local_port_range` (ip(7)).
fn parse(text: &str) -> Option<PortRange> {
    let mut numbers = text.split_whitespace().map(str::parse);
    Some(PortRange {
        first: numbers.next()?.ok()?,
        last: numbers.next()?.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_range_is_two_numbers() {
        let range = PortRange {
            first: 32_768,
            last: 60_999,
        };
        assert_eq!(parse("32768\t60999\n"), Some(range));
        assert_eq!(parse(""), None);
    }
}
