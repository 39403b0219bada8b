//! Mode nftables, after `setupNFTables` and `syncProxyRules` in pkg/proxy/nftables/proxier.go:
//! verdict maps from all Services' addresses to their chains, each of which chooses an
//! endpoint by itself.
//!
//! One command for each object, as kube-proxy's library (github.com/danwinship/knftables)
//! writes them, since the form has a part in how long `nft` takes.

use std::{
    collections::HashSet,
    fmt::{self, Write as _},
    net::Ipv4Addr,
};

use super::{Endpoint, MASQUERADE_MARK, Node, Rules, ServicePort, Usable, names};

/// Base chains: name, type, hook and priority.
const BASE_CHAINS: [(&str, &str, &str, i32); 8] = [
    ("filter-prerouting-pre-dnat", "filter", "prerouting", -110),
    ("filter-output-pre-dnat", "filter", "output", -110),
    ("filter-input", "filter", "input", 0),
    ("filter-forward", "filter", "forward", 0),
    ("filter-output", "filter", "output", 0),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
];

/// Chains that base chains jump to.
const CHAINS: [&str; 6] = [
    "nodeport-endpoints-check",
    "service-endpoints-check",
    "firewall-check",
    "services",
    "masquerading",
    "cluster-ips-check",
];

/// Jumps from base chains, some of them for new connections only.
const JUMPS: [(&str, &str, bool); 11] = [
    ("filter-input", "nodeport-endpoints-check", true),
    ("filter-input", "service-endpoints-check", true),
    ("filter-forward", "service-endpoints-check", true),
    ("filter-output", "service-endpoints-check", true),
    ("filter-prerouting-pre-dnat", "firewall-check", true),
    ("filter-output-pre-dnat", "firewall-check", true),
    ("nat-output", "services", false),
    ("nat-prerouting", "services", false),
    ("nat-postrouting", "masquerading", false),
    ("filter-forward", "cluster-ips-check", true),
    ("filter-output", "cluster-ips-check", true),
];

const BY_ADDRESS: &str = "ipv4_addr . inet_proto . inet_service : verdict";
const BY_PORT: &str = "inet_proto . inet_service : verdict";

/// Sets and maps: kind, name, type and comment.
const SETS: [(&str, &str, &str, &str); 8] = [
    (
        "set",
        "hairpin-connections",
        "ipv4_addr . ipv4_addr . inet_proto . inet_service",
        "service hairpin connections",
    ),
    ("set", "cluster-ips", "ipv4_addr", "Active ClusterIPs"),
    (
        "set",
        "nodeport-ips",
        "ipv4_addr",
        "IPs that accept NodePort traffic",
    ),
    (
        "map",
        "no-endpoint-services",
        BY_ADDRESS,
        "vmap to drop or reject packets to services with no endpoints",
    ),
    (
        "map",
        "no-endpoint-nodeports",
        BY_PORT,
        "vmap to drop or reject packets to service nodeports with no endpoints",
    ),
    (
        "map",
        "firewall-ips",
        BY_ADDRESS,
        "destinations that are subject to LoadBalancerSourceRanges",
    ),
    (
        "map",
        "service-ips",
        BY_ADDRESS,
        "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    ),
    ("map", "service-nodeports", BY_PORT, "NodePort traffic"),
];

/// The whole input of `nft`.
pub(super) fn write(rules: &Rules) -> String {
    let mut writer = Writer {
        node: &rules.node,
        text: String::new(),
        elements: HashSet::new(),
    };
    writer.containers();
    writer.common_rules();
    for port in &rules.ports {
        writer.service(port);
    }
    writer.text
}

struct Writer<'a> {
    node: &'a Node,
    text: String,
    /// Elements that more than one Service port may ask for, and that are written.
    elements: HashSet<(Ipv4Addr, Option<(&'static str, u16)>)>,
}

/// A Service port, its endpoints, and the names of its chains.
struct Service<'a> {
    port: &'a ServicePort,
    usable: Usable<'a>,
    /// What is the same in the names of all its chains.
    name: String,
}

impl Service<'_> {
    /// The chain of a traffic policy.
    fn policy_chain(&self, is_local: bool) -> String {
        let prefix = if is_local { "local" } else { "service" };
        format!("{prefix}-{}", self.name)
    }

    /// What becomes of packets for which there is no endpoint.
    fn refusal(&self) -> &'static str {
        if self.usable.any {
            "drop"
        } else {
            "goto reject-chain"
        }
    }
}

impl Writer<'_> {
    fn add(&mut self, what: &str, command: fmt::Arguments<'_>) {
        let _ = writeln!(self.text, "add {what} ip kube-proxy {command}");
    }

    /// A chain with no rules from before.
    fn chain(&mut self, name: &str) {
        self.add("chain", format_args!("{name}"));
        let _ = writeln!(self.text, "flush chain ip kube-proxy {name}");
    }

    fn rule(&mut self, chain: &str, rule: fmt::Arguments<'_>) {
        self.add("rule", format_args!("{chain} {rule}"));
    }

    /// An element of a set.
    fn element(&mut self, set: &str, key: fmt::Arguments<'_>) {
        self.add("element", format_args!("{set} {{ {key} }}"));
    }

    /// An element of a map.
    fn entry(&mut self, map: &str, key: &str, value: fmt::Arguments<'_>) {
        self.add("element", format_args!("{map} {{ {key} : {value} }}"));
    }

    /// The table, and all of its objects that are no Service's.
    fn containers(&mut self) {
        self.text
            .push_str("add table ip kube-proxy { comment \"rules for kube-proxy\" ; }\n");
        for (name, kind, hook, priority) in BASE_CHAINS {
            self.add(
                "chain",
                format_args!("{name} {{ type {kind} hook {hook} priority {priority} ; }}"),
            );
            let _ = writeln!(self.text, "flush chain ip kube-proxy {name}");
        }
        for name in CHAINS {
            self.chain(name);
        }
        self.add(
            "chain",
            format_args!(
                "reject-chain {{ comment \"helper for @no-endpoint-services / \
                 @no-endpoint-nodeports\" ; }}"
            ),
        );
        self.text
            .push_str("flush chain ip kube-proxy reject-chain\n");
        for (kind, name, of, comment) in SETS {
            self.add(
                kind,
                format_args!("{name} {{ type {of} ; comment \"{comment}\" ; }}"),
            );
            let _ = writeln!(self.text, "flush {kind} ip kube-proxy {name}");
        }
    }

    fn common_rules(&mut self) {
        let mark = MASQUERADE_MARK;
        let Node {
            address,
            pods,
            services,
            ..
        } = *self.node;
        for (from, to, is_for_new) in JUMPS {
            let new = if is_for_new { "ct state new " } else { "" };
            self.rule(from, format_args!("{new}jump {to}"));
        }
        self.rule(
            "masquerading",
            format_args!("mark and {mark} != 0 mark set mark xor {mark} masquerade fully-random"),
        );
        self.rule(
            "masquerading",
            format_args!(
                "ct status dnat ip saddr . ip daddr . meta l4proto . th dport \
                 @hairpin-connections masquerade fully-random"
            ),
        );
        self.rule(
            "cluster-ips-check",
            format_args!(
                "ip daddr @cluster-ips reject \
                 comment \"Reject traffic to invalid ports of ClusterIPs\""
            ),
        );
        self.rule(
            "cluster-ips-check",
            format_args!(
                "ip daddr {{ {services} }} drop \
                 comment \"Drop traffic to unallocated ClusterIPs\""
            ),
        );
        self.element("nodeport-ips", format_args!("{address}"));
        self.rule("reject-chain", format_args!("reject"));
        let key = "ip daddr . meta l4proto . th dport vmap";
        let port = "ip daddr @nodeport-ips meta l4proto . th dport vmap";
        self.rule(
            "services",
            format_args!(
                "ip daddr @cluster-ips ip saddr != {pods} mark set mark or {mark} \
                 comment \"masquerade clusterIP traffic from outside cluster\""
            ),
        );
        for (chain, key, map) in [
            ("service-endpoints-check", key, "no-endpoint-services"),
            ("nodeport-endpoints-check", port, "no-endpoint-nodeports"),
            ("firewall-check", key, "firewall-ips"),
            ("services", key, "service-ips"),
            ("services", port, "service-nodeports"),
        ] {
            self.rule(chain, format_args!("{key} @{map}"));
        }
    }

    fn service(&mut self, port: &ServicePort) {
        let service = Service {
            port,
            usable: port.usable(),
            name: names::nftables_service(port),
        };
        let Usable {
            cluster,
            local,
            reachable,
            ..
        } = &service.usable;
        let is_external = service.usable.any && port.is_external();
        // Chains before all that refers to them.
        if let Some(seconds) = port.affinity {
            self.affinity(port, seconds, reachable);
        }
        for (is_local, endpoints) in [(false, cluster), (true, local)] {
            if !endpoints.is_empty() {
                self.chain(&service.policy_chain(is_local));
            }
        }
        if is_external {
            self.chain(&format!("external-{}", service.name));
        }
        if port.has_source_ranges() {
            self.firewall(&service);
        }
        self.cluster_ip(&service);
        self.addresses(&service);
        self.node_port(&service);
        if is_external {
            self.external(&service);
        }
        for (is_local, endpoints) in [(false, cluster), (true, local)] {
            self.policy(&service, is_local, endpoints);
        }
        for endpoint in reachable.iter().filter(|it| it.local) {
            self.hairpin(port, endpoint);
        }
    }

    fn cluster_ip(&mut self, service: &Service<'_>) {
        let Service { port, usable, .. } = service;
        if self.elements.insert((port.cluster_ip, None)) {
            self.element("cluster-ips", format_args!("{}", port.cluster_ip));
        }
        let key = key(port, port.cluster_ip);
        if usable.internal {
            let chain = service.policy_chain(port.internal_local);
            self.entry("service-ips", &key, format_args!("goto {chain}"));
        } else {
            self.refuse("no-endpoint-services", &key, service);
        }
    }

    /// External IPs and those of load balancers.
    fn addresses(&mut self, service: &Service<'_>) {
        let Service { port, usable, name } = service;
        for ip in port.external_ips.iter().chain(&port.load_balancer_ips) {
            let key = key(port, *ip);
            if usable.any {
                self.entry("service-ips", &key, format_args!("goto external-{name}"));
            }
            if !usable.external {
                self.refuse("no-endpoint-services", &key, service);
            }
        }
        if port.has_source_ranges() {
            for ip in &port.load_balancer_ips {
                let key = key(port, *ip);
                self.entry("firewall-ips", &key, format_args!("goto firewall-{name}"));
            }
        }
    }

    fn node_port(&mut self, service: &Service<'_>) {
        let Service { port, usable, name } = service;
        let Some(number) = port.node_port else { return };
        let key = format!("{} . {number}", port.protocol);
        if usable.any {
            let chain = format_args!("goto external-{name}");
            self.entry("service-nodeports", &key, chain);
        }
        if !usable.external {
            self.refuse("no-endpoint-nodeports", &key, service);
        }
    }

    fn refuse(&mut self, map: &str, key: &str, service: &Service<'_>) {
        let key = format!("{key} comment \"{}\"", service.port.title);
        self.entry(map, &key, format_args!("{}", service.refusal()));
    }

    /// The rules for NodePorts, load balancers and external IPs.
    fn external(&mut self, service: &Service<'_>) {
        let Service { port, usable, name } = service;
        let (mark, pods) = (MASQUERADE_MARK, self.node.pods);
        let external = format!("external-{name}");
        if port.external_local {
            let cluster = service.policy_chain(false);
            self.rule(
                &external,
                format_args!(
                    "ip saddr {pods} goto {cluster} comment \"short-circuit pod traffic\""
                ),
            );
            self.rule(
                &external,
                format_args!(
                    "fib saddr type local mark set mark or {mark} \
                     comment \"masquerade local traffic\""
                ),
            );
            self.rule(
                &external,
                format_args!(
                    "fib saddr type local goto {cluster} \
                     comment \"short-circuit local traffic\""
                ),
            );
        } else {
            self.rule(
                &external,
                format_args!("mark set mark or {mark} comment \"masquerade\""),
            );
        }
        if usable.external {
            let chain = service.policy_chain(port.external_local);
            self.rule(&external, format_args!("goto {chain}"));
        }
    }

    /// The chain that lets only some clients to a load balancer's addresses.
    fn firewall(&mut self, service: &Service<'_>) {
        let chain = format!("firewall-{}", service.name);
        let sources = service.port.allowed_sources(self.node);
        let sources: Vec<_> = sources.iter().map(ToString::to_string).collect();
        let sources = sources.join(", ");
        self.chain(&chain);
        self.rule(&chain, format_args!("ip saddr != {{ {sources} }} drop"));
    }

    /// Chains and sets of endpoints, which only affinity needs.
    fn affinity(&mut self, port: &ServicePort, seconds: u32, endpoints: &[&Endpoint]) {
        for Endpoint { text, .. } in endpoints {
            let name = names::nftables_endpoint(port, text);
            let chain = format!("endpoint-{name}");
            self.chain(&chain);
            self.add(
                "set",
                format_args!(
                    "affinity-{name} {{ type ipv4_addr ; flags dynamic,timeout ; \
                     timeout {seconds}s ; }}"
                ),
            );
            self.rule(
                &chain,
                format_args!("update @affinity-{name} {{ ip saddr }}"),
            );
            self.rule(
                &chain,
                format_args!("meta l4proto {} dnat to {text}", port.protocol),
            );
        }
    }

    /// The rules of a traffic policy, which choose an endpoint.
    fn policy(&mut self, service: &Service<'_>, is_local: bool, endpoints: &[&Endpoint]) {
        if endpoints.is_empty() {
            return;
        }
        let port = service.port;
        let chain = service.policy_chain(is_local);
        let count = endpoints.len();
        let mut choices = String::new();
        if port.affinity.is_none() {
            for (index, endpoint) in endpoints.iter().enumerate() {
                let Endpoint { address, port, .. } = endpoint;
                let comma = if index == 0 { "" } else { " , " };
                let _ = write!(choices, "{comma}{index} : {address} . {port}");
            }
            let protocol = port.protocol;
            self.rule(
                &chain,
                format_args!(
                    "meta l4proto {protocol} dnat ip addr . port to \
                     numgen random mod {count} map {{ {choices} }}"
                ),
            );
            return;
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let name = names::nftables_endpoint(port, &endpoint.text);
            self.rule(
                &chain,
                format_args!("ip saddr @affinity-{name} goto endpoint-{name}"),
            );
            let comma = if index == 0 { "" } else { " , " };
            let _ = write!(choices, "{comma}{index} : goto endpoint-{name}");
        }
        self.rule(
            &chain,
            format_args!("numgen random mod {count} vmap {{ {choices} }}"),
        );
    }

    /// An endpoint that reaches itself must not see its own address as the client's.
    fn hairpin(&mut self, port: &ServicePort, endpoint: &Endpoint) {
        let (address, protocol) = (endpoint.address, port.protocol);
        let number = endpoint.port;
        if self.elements.insert((address, Some((protocol, number)))) {
            self.element(
                "hairpin-connections",
                format_args!("{address} . {address} . {protocol} . {number}"),
            );
        }
    }
}

/// The key of a Service's address in a verdict map.
fn key(port: &ServicePort, address: Ipv4Addr) -> String {
    format!("{address} . {} . {}", port.protocol, port.port)
}
