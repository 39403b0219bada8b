//! Settings of the network stack, and ports.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::check::{Device, Facts, Finding, Role, State};
use crate::host::{HostPorts, NODE_PORTS, nat_ports};

/// Those of kube-proxy that the agent takes: health and metrics.
const KUBE_PROXY_PORTS: [u16; 2] = [10256, 10249];
/// With fewer source ports than this, connections with this node's address run out of them.
const FEW: usize = 4096;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![forwarding(facts)];
    findings.extend(forwarding_v6(facts));
    findings.push(rp_filter(facts));
    match &facts.ports.host {
        Ok(host) => findings.extend([
            source_ports(facts, host),
            node_ports(host),
            kube_proxy_ports(host),
        ]),
        Err(why) => findings.push(Finding::of(
            State::Unknown,
            "ports",
            why.as_str(),
            "run this in the host's network namespace, with /proc",
        )),
    }
    findings
}

fn sysctl<'a>(facts: &'a Facts, name: &str) -> Option<&'a str> {
    facts.sysctls.get(name).map(String::as_str)
}

fn forwarding(facts: &Facts) -> Finding {
    const NAME: &str = "net.ipv4.ip_forward";
    match sysctl(facts, NAME) {
        Some("1") => Finding::ok("forwarding", "IPv4 packets are forwarded"),
        Some(_) => Finding::of(
            State::Error,
            "forwarding",
            "IPv4 packets are not forwarded to Pods",
            format!("sysctl -w {NAME}=1, and in /etc/sysctl.d"),
        ),
        None => Finding::of(
            State::Unknown,
            "forwarding",
            format!("{NAME} cannot be read"),
            "mount /proc",
        ),
    }
}

fn devices(facts: &Facts) -> impl Iterator<Item = &Device> {
    facts.devices.iter().flatten()
}

/// Only where an uplink has IPv6.
fn forwarding_v6(facts: &Facts) -> Option<Finding> {
    const NAME: &str = "net.ipv6.conf.all.forwarding";
    let is_global = |address: &IpAddr| matches!(address, IpAddr::V6(it) if !it.is_unicast_link_local() && !it.is_loopback());
    let has_v6 = devices(facts).any(|device| device.addresses.iter().any(is_global));
    if !has_v6 {
        return None;
    }
    Some(match sysctl(facts, NAME) {
        Some("0") => Finding::of(
            State::Warning,
            "forwarding-ipv6",
            "IPv6 packets are not forwarded to Pods",
            format!("in a cluster with IPv6 sysctl -w {NAME}=1, and in /etc/sysctl.d"),
        ),
        _ => Finding::ok("forwarding-ipv6", "IPv6 packets are forwarded"),
    })
}

/// The larger one of a device's value and that of all counts
/// (`Documentation/networking/ip-sysctl.rst`).
fn is_strict(facts: &Facts, device: &Device) -> bool {
    let of = |name: &str| {
        let value = sysctl(facts, &format!("net.ipv4.conf.{name}.rp_filter"));
        value.and_then(|it| it.parse::<u8>().ok()).unwrap_or(0)
    };
    of("all").max(of(&device.name)) == 1
}

/// Strict filtering is in the way where answers may take another uplink than requests.
fn rp_filter(facts: &Facts) -> Finding {
    const CHECK: &str = "rp-filter";
    let outside = || {
        let outside = devices(facts).filter(|it| it.role != Role::Pod);
        outside.filter(|it| !it.addresses.is_empty())
    };
    let strict: Vec<_> = outside().filter(|it| is_strict(facts, it)).collect();
    if strict.is_empty() || outside().count() < 2 {
        return Finding::ok(CHECK, "in nobody's way");
    }
    let names: Vec<_> = strict.iter().map(|it| it.name.as_str()).collect();
    Finding::of(
        State::Warning,
        CHECK,
        format!(
            "strict at {}, beside other devices that lead out",
            names.join(", ")
        ),
        "nothing where each client's packets come and go by one device; else, and for \
         `forwarding: dsr`, sysctl -w net.ipv4.conf.DEVICE.rp_filter=2",
    )
}

fn source_ports(facts: &Facts, host: &HostPorts) -> Finding {
    const CHECK: &str = "nat-ports";
    let range = facts.ports.nat;
    let nat = nat_ports(range, host, &BTreeSet::new());
    let found = format!(
        "{} of {range} for connections with this node's address",
        nat.ports.len()
    );
    if nat.ports.is_empty() {
        return Finding::of(State::Error, CHECK, found, "a larger natPorts");
    }
    if nat.shares_ephemeral {
        return Finding::of(
            State::Warning,
            CHECK,
            format!("{found}, ports that sockets may get among them"),
            "a smaller net.ipv4.ip_local_port_range, such as 32768-60999",
        );
    }
    if nat.ports.len() < FEW {
        let advice = "a larger natPorts, or a smaller net.ipv4.ip_local_port_range";
        return Finding::of(State::Warning, CHECK, found, advice);
    }
    Finding::ok(CHECK, found)
}

fn node_ports(host: &HostPorts) -> Finding {
    const CHECK: &str = "node-ports";
    let bound: Vec<_> = host
        .bound
        .iter()
        .filter(|it| NODE_PORTS.contains(**it))
        .collect();
    if !bound.is_empty() {
        let bound: Vec<_> = bound.iter().take(5).map(ToString::to_string).collect();
        return Finding::of(
            State::Warning,
            CHECK,
            format!("sockets have ports of {NODE_PORTS}: {}", bound.join(", ")),
            "other ports for them: a NodePort of that number would take their packets",
        );
    }
    if NODE_PORTS.ports().any(|port| host.is_ephemeral(port)) {
        return Finding::of(
            State::Warning,
            CHECK,
            format!("sockets may get ports of {NODE_PORTS}, by net.ipv4.ip_local_port_range"),
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={NODE_PORTS}"),
        );
    }
    Finding::ok(CHECK, format!("{NODE_PORTS} are nobody else's"))
}

fn kube_proxy_ports(host: &HostPorts) -> Finding {
    const CHECK: &str = "own-ports";
    let taken: Vec<_> = KUBE_PROXY_PORTS
        .into_iter()
        .filter(|it| host.bound.contains(it))
        .collect();
    if taken.is_empty() {
        return Finding::ok(CHECK, "10256 (health) and 10249 (metrics) are free");
    }
    let taken: Vec<_> = taken.iter().map(ToString::to_string).collect();
    Finding::of(
        State::Warning,
        CHECK,
        format!("somebody listens at {}", taken.join(", ")),
        "nothing if that is a kube-proxy: the agent takes them when it stops; else \
         healthzBindAddress, metricsBindAddress",
    )
}
