//! What kube-proxy 1.36 writes on a node, in either mode, for the mirror: chains, marks and order as
//! they are there, without comments and canaries.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use proxy_tests::lab::addresses::Addresses;
use proxy_tests::lab::{Cluster, Family, mirror};

use super::ENDPOINTS;

/// A mode of kube-proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Nftables,
    Iptables,
}

/// Writes the rules of node 1, by which the mirror leads to its endpoints.
pub(super) fn write_rules(cluster: &Cluster, mode: Mode) -> Result<()> {
    let node = &cluster.nodes[0];
    for family in Family::BOTH {
        let endpoints = ENDPOINTS.map(|(node, pod)| {
            let address = cluster.pod(node, pod).addresses.of(family);
            SocketAddr::new(address, mirror::PORT)
        });
        let at = &node.namespace;
        match mode {
            Mode::Nftables => at.nft(&nftables(family, node.addresses, &endpoints))?,
            Mode::Iptables => at.iptables(family, &iptables(family, &endpoints))?,
        }
    }
    Ok(())
}

/// Removes them, as `kube-proxy --cleanup` does: in mode iptables the built-in chains stay.
pub(super) fn remove_rules(cluster: &Cluster, mode: Mode) -> Result<()> {
    let at = &cluster.nodes[0].namespace;
    for (family, ip) in [(Family::V4, "ip"), (Family::V6, "ip6")] {
        match mode {
            Mode::Nftables => at.nft(&format!("delete table {ip} kube-proxy\n"))?,
            Mode::Iptables => at.iptables(family, "*filter\nCOMMIT\n*nat\nCOMMIT\n")?,
        }
    }
    Ok(())
}

/// The `clusterCIDR`, and the range of Services.
fn ranges(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["10.244.0.0/16", "10.96.0.0/16"],
        Family::V6 => ["fd00:10:244::/48", "fd00:10:96::/112"],
    }
}

fn nftables(family: Family, node: Addresses, endpoints: &[SocketAddr]) -> String {
    let (ip, kind) = match family {
        Family::V4 => ("ip", "ipv4_addr"),
        Family::V6 => ("ip6", "ipv6_addr"),
    };
    let [pods, services] = ranges(family);
    let frontend = mirror::cluster_ip(family);
    let (cluster_ip, port, node_port) = (frontend.ip(), frontend.port(), mirror::NODE_PORT);
    let node = node.of(family);
    let protocols = ["tcp", "udp"];
    let lines = |line: &dyn Fn(&str) -> String| protocols.map(line).join(", ");
    let service_ips =
        lines(&|it| format!("{cluster_ip} . {it} . {port} : goto service-mirror/{it}"));
    let node_ports = lines(&|it| format!("{it} . {node_port} : goto external-mirror/{it}"));
    let hairpins = |it: &str| {
        let of = endpoints.iter().map(|to| {
            let (address, port) = (to.ip(), to.port());
            format!("{address} . {address} . {it} . {port}")
        });
        of.collect::<Vec<_>>().join(", ")
    };
    let hairpins = protocols.map(hairpins).join(", ");
    let endpoints_map: Vec<_> = (0..)
        .zip(endpoints)
        .map(|(number, to): (usize, _)| format!("{number} : {} . {}", to.ip(), to.port()))
        .collect();
    let (count, endpoints_map) = (endpoints.len(), endpoints_map.join(", "));
    let mut services_chains = String::new();
    for it in protocols {
        let _ = write!(
            services_chains,
            "chain service-mirror/{it} {{
                meta l4proto {it} dnat {ip} to numgen random mod {count} map {{ {endpoints_map} }}
            }}
            chain external-mirror/{it} {{
                meta mark set meta mark | 0x4000
                goto service-mirror/{it}
            }}
            "
        );
    }
    format!(
        "table {ip} kube-proxy {{
            set hairpin-connections {{
                type {kind} . {kind} . inet_proto . inet_service
                elements = {{ {hairpins} }}
            }}
            set cluster-ips {{ type {kind}; elements = {{ {cluster_ip} }}; }}
            set nodeport-ips {{ type {kind}; elements = {{ {node} }}; }}
            {services_chains}
            map service-ips {{
                type {kind} . inet_proto . inet_service : verdict
                elements = {{ {service_ips} }}
            }}
            map service-nodeports {{
                type inet_proto . inet_service : verdict
                elements = {{ {node_ports} }}
            }}
            chain services {{
                {ip} daddr @cluster-ips {ip} saddr != {pods} meta mark set meta mark | 0x4000
                {ip} daddr . meta l4proto . th dport vmap @service-ips
                {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
            }}
            chain masquerading {{
                meta mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
                ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random
            }}
            chain cluster-ips-check {{
                {ip} daddr @cluster-ips reject
                {ip} daddr {services} drop
            }}
            chain nat-prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                jump services
            }}
            chain nat-output {{
                type nat hook output priority -100; policy accept;
                jump services
            }}
            chain nat-postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                jump masquerading
            }}
            chain filter-forward {{
                type filter hook forward priority filter; policy accept;
                ct state new jump cluster-ips-check
            }}
            chain filter-output {{
                type filter hook output priority filter; policy accept;
                ct state new jump cluster-ips-check
            }}
        }}\n"
    )
}

fn iptables(family: Family, endpoints: &[SocketAddr]) -> String {
    let [pods, _] = ranges(family);
    let frontend = mirror::cluster_ip(family);
    let (cluster_ip, port, node_port) = (frontend.ip(), frontend.port(), mirror::NODE_PORT);
    let mut chains = String::new();
    let mut rules = String::new();
    for it in ["tcp", "udp"] {
        let _ = write!(chains, ":KUBE-SVC-{it} - [0:0]\n:KUBE-EXT-{it} - [0:0]\n");
        let _ = write!(
            rules,
            "-A KUBE-SERVICES -d {cluster_ip} -p {it} -m {it} --dport {port} -j KUBE-SVC-{it}\n\
             -A KUBE-NODEPORTS -p {it} -m {it} --dport {node_port} -j KUBE-EXT-{it}\n\
             -A KUBE-EXT-{it} -j KUBE-MARK-MASQ\n\
             -A KUBE-EXT-{it} -j KUBE-SVC-{it}\n\
             -A KUBE-SVC-{it} ! -s {pods} -d {cluster_ip} -p {it} -m {it} --dport {port} -j KUBE-MARK-MASQ\n"
        );
        let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        for (number, to) in (0..count).zip(endpoints) {
            let left = count - number;
            let chance = match left {
                1 => String::new(),
                _ => format!(
                    "-m statistic --mode random --probability {} ",
                    1.0 / f64::from(left)
                ),
            };
            let _ = writeln!(chains, ":KUBE-SEP-{it}-{number} - [0:0]");
            let _ = write!(
                rules,
                "-A KUBE-SVC-{it} {chance}-j KUBE-SEP-{it}-{number}\n\
                 -A KUBE-SEP-{it}-{number} -s {} -j KUBE-MARK-MASQ\n\
                 -A KUBE-SEP-{it}-{number} -p {it} -m {it} -j DNAT --to-destination {to}\n",
                to.ip()
            );
        }
    }
    format!(
        "*filter\n\
         :KUBE-FORWARD - [0:0]\n\
         -A FORWARD -j KUBE-FORWARD\n\
         -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n\
         -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT\n\
         -A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         COMMIT\n\
         *nat\n\
         :KUBE-SERVICES - [0:0]\n\
         :KUBE-NODEPORTS - [0:0]\n\
         :KUBE-POSTROUTING - [0:0]\n\
         :KUBE-MARK-MASQ - [0:0]\n\
         {chains}\
         -A PREROUTING -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-SERVICES\n\
         -A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
         -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n\
         {rules}\
         -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n\
         COMMIT\n"
    )
}
