//! What kube-proxy writes when one Service changes: its partial sync.

use std::collections::HashSet;

/// What names of chains in table nat begin with that belong to one Service.
const OF_SERVICES: [&str; 5] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
];
/// What is before the name of a chain of one Service in mode nftables.
const COMMANDS: [&str; 3] = [
    "add chain ip kube-proxy service-",
    "flush chain ip kube-proxy service-",
    "add rule ip kube-proxy service-",
];
/// A chain of all Services, whose name begins as those of single ones do.
const COMMON: &str = "endpoints-check";

/// Of the rules of a Service alone, those of its own chain: sets and maps stay as they are
/// when only endpoints change (`syncProxyRules` in pkg/proxy/nftables/proxier.go).
pub(super) fn nftables(of_service: &str) -> String {
    let is_own = |line: &str| {
        let rest = COMMANDS.iter().find_map(|it| line.strip_prefix(it));
        rest.is_some_and(|rest| !rest.starts_with(COMMON))
    };
    lines(of_service, is_own)
}

/// Of the rules of all Services, those that are in no single Service's chains, and those of
/// the chains that the Service has (`syncProxyRules` in pkg/proxy/iptables/proxier.go).
/// Jumps from built-in chains are there already.
pub(super) fn iptables(of_all: &str, of_service: &str) -> String {
    let own: HashSet<_> = of_service.lines().filter_map(chain).collect();
    let is_written = |line: &str| match chain(line) {
        None => true,
        Some(name) if OF_SERVICES.iter().any(|it| name.starts_with(it)) => own.contains(name),
        Some(name) => name.starts_with("KUBE-"),
    };
    lines(of_all, is_written)
}

/// The chain that a line declares or adds a rule to.
fn chain(line: &str) -> Option<&str> {
    let rest = line.strip_prefix(':').or_else(|| {
        let added = line.strip_prefix("-A ");
        added.or_else(|| line.strip_prefix("-I "))
    })?;
    rest.split(' ').next()
}

fn lines(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let lines = text.lines().filter(|line| wanted(line));
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nftables_the_chain_of_the_service_is_written() {
        let text = "add chain ip kube-proxy service-endpoints-check\n\
                    add chain ip kube-proxy service-ABC-a/b/tcp/p\n\
                    add element ip kube-proxy cluster-ips { 10.0.0.1 }\n\
                    add rule ip kube-proxy service-ABC-a/b/tcp/p dnat\n";
        let kept: Vec<_> = text.lines().skip(1).step_by(2).collect();
        assert_eq!(nftables(text).lines().collect::<Vec<_>>()[0], kept[0]);
        assert_eq!(nftables(text).lines().count(), 2);
    }

    #[test]
    fn of_iptables_other_services_chains_are_left_out() {
        let all = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-SVC-B - [0:0]\n\
                   -A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -j KUBE-SVC-A\n\
                   -A KUBE-SERVICES -j KUBE-SVC-B\n-A KUBE-SVC-A -j X\n-A KUBE-SVC-B -j X\nCOMMIT\n";
        let written = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-A - [0:0]\n\
                       -A KUBE-SERVICES -j KUBE-SVC-A\n-A KUBE-SERVICES -j KUBE-SVC-B\n\
                       -A KUBE-SVC-A -j X\nCOMMIT\n";
        assert_eq!(iptables(all, ":KUBE-SVC-A - [0:0]\n"), written);
    }
}
