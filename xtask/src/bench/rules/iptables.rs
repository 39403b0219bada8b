//! Mode iptables, after `syncProxyRules` in pkg/proxy/iptables/proxier.go: a chain for each
//! endpoint, chains for each Service port that lead to them by chance, and one list of
//! all Services' addresses that packets are compared with in order.

use std::fmt::{self, Write as _};

use super::{Endpoint, MASQUERADE_MARK, Node, Rules, ServicePort, Usable, names};

/// With more endpoints kube-proxy leaves out the comments that repeat for each of them
/// (`largeClusterEndpointsThreshold`).
const LARGE: usize = 1000;

/// The chain by which kube-proxy sees that someone else removed all rules.
const CANARY: &str = "KUBE-PROXY-CANARY";

/// Chains of table filter that are called from built-in chains.
const FILTER_CHAINS: [&str; 6] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    // The kubelet's. kube-proxy fills it too where NodePorts are open at 127.0.0.1.
    "KUBE-FIREWALL",
];

/// Chains of table nat that are no Service's.
const NAT_CHAINS: [&str; 4] = [
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
];

/// Jumps from built-in chains of table filter. Each is put before those that are there,
/// so the last is the first that packets see.
const FILTER_JUMPS: [(&str, &str, Option<&str>, bool); 11] = [
    ("INPUT", "KUBE-EXTERNAL-SERVICES", EXTERNAL, true),
    ("FORWARD", "KUBE-EXTERNAL-SERVICES", EXTERNAL, true),
    (
        "INPUT",
        "KUBE-NODEPORTS",
        Some("kubernetes health check service ports"),
        false,
    ),
    ("FORWARD", "KUBE-SERVICES", PORTALS, true),
    ("OUTPUT", "KUBE-SERVICES", PORTALS, true),
    (
        "FORWARD",
        "KUBE-FORWARD",
        Some("kubernetes forwarding rules"),
        false,
    ),
    ("INPUT", "KUBE-PROXY-FIREWALL", FIREWALL, true),
    ("OUTPUT", "KUBE-PROXY-FIREWALL", FIREWALL, true),
    ("FORWARD", "KUBE-PROXY-FIREWALL", FIREWALL, true),
    ("INPUT", "KUBE-FIREWALL", None, false),
    ("OUTPUT", "KUBE-FIREWALL", None, false),
];

/// Jumps from built-in chains of table nat.
const NAT_JUMPS: [(&str, &str, Option<&str>, bool); 3] = [
    ("OUTPUT", "KUBE-SERVICES", PORTALS, false),
    ("PREROUTING", "KUBE-SERVICES", PORTALS, false),
    (
        "POSTROUTING",
        "KUBE-POSTROUTING",
        Some("kubernetes postrouting rules"),
        false,
    ),
];

const EXTERNAL: Option<&str> = Some("kubernetes externally-visible service portals");
const FIREWALL: Option<&str> = Some("kubernetes load balancer firewall");
const PORTALS: Option<&str> = Some("kubernetes service portals");

/// The whole input of `iptables-restore`.
pub(super) fn write(rules: &Rules) -> String {
    let endpoints: usize = rules.ports.iter().map(|port| port.endpoints.len()).sum();
    let mut writer = Writer {
        node: &rules.node,
        is_large: endpoints > LARGE,
        filter: Table::new(&FILTER_CHAINS, &FILTER_JUMPS),
        nat: Table::new(&NAT_CHAINS, &NAT_JUMPS),
    };
    writer.masquerading();
    for port in &rules.ports {
        writer.service(port);
    }
    writer.ends();
    let mangle = Table::new(&[], &[]);
    let mut text = String::new();
    mangle.append_to(&mut text, "mangle");
    writer.filter.append_to(&mut text, "filter");
    writer.nat.append_to(&mut text, "nat");
    text
}

/// A table: all chains come before the first rule.
struct Table {
    chains: String,
    rules: String,
}

impl Table {
    /// A table with jumps, some of them for new connections only.
    fn new(chains: &[&str], jumps: &[(&str, &str, Option<&str>, bool)]) -> Self {
        let mut table = Self {
            chains: String::new(),
            rules: String::new(),
        };
        for chain in chains.iter().chain([&CANARY]) {
            table.chain(format_args!("{chain}"));
        }
        for (from, to, comment, is_for_new) in jumps {
            let new = "-m conntrack --ctstate NEW ";
            let new = if *is_for_new { new } else { "" };
            let comment = comment.map(|it| format!("-m comment --comment \"{it}\" "));
            let comment = comment.unwrap_or_default();
            table.rule(format_args!("-I {from} {new}{comment}-j {to}"));
        }
        table
    }

    fn chain(&mut self, name: fmt::Arguments<'_>) {
        let _ = writeln!(self.chains, ":{name} - [0:0]");
    }

    fn rule(&mut self, rule: fmt::Arguments<'_>) {
        let _ = writeln!(self.rules, "{rule}");
    }

    fn append_to(&self, text: &mut String, name: &str) {
        let Self { chains, rules } = self;
        let _ = writeln!(text, "*{name}\n{chains}{rules}COMMIT");
    }
}

struct Writer<'a> {
    node: &'a Node,
    is_large: bool,
    filter: Table,
    nat: Table,
}

/// A Service port, its endpoints, and the names of its chains.
struct Service<'a> {
    port: &'a ServicePort,
    usable: Usable<'a>,
    /// What is the same in the names of all its chains.
    hash: String,
}

impl Service<'_> {
    /// The chain of a traffic policy.
    fn policy_chain(&self, is_local: bool) -> String {
        let prefix = if is_local { "KUBE-SVL-" } else { "KUBE-SVC-" };
        format!("{prefix}{}", self.hash)
    }
}

impl Writer<'_> {
    fn masquerading(&mut self) {
        let mark = MASQUERADE_MARK;
        self.nat.rule(format_args!(
            "-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN"
        ));
        self.nat.rule(format_args!(
            "-A KUBE-POSTROUTING -j MARK --xor-mark {mark}"
        ));
        self.nat.rule(format_args!(
            "-A KUBE-POSTROUTING -m comment --comment \
             \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
        ));
        self.nat
            .rule(format_args!("-A KUBE-MARK-MASQ -j MARK --or-mark {mark}"));
    }

    fn service(&mut self, port: &ServicePort) {
        let service = Service {
            port,
            usable: port.usable(),
            hash: names::iptables_service(port),
        };
        self.addresses(&service);
        self.node_ports(&service);
        self.internal(&service);
        if service.usable.any && port.is_external() {
            self.external(&service);
        }
        if service.usable.any && port.has_source_ranges() {
            self.firewall(&service);
        }
        self.policy(&service, false, &service.usable.cluster);
        self.policy(&service, true, &service.usable.local);
        for endpoint in &service.usable.reachable {
            self.endpoint(port, endpoint);
        }
    }

    /// Leads from a Service's addresses to its chains, or rejects where none are.
    fn addresses(&mut self, service: &Service<'_>) {
        let Service { port, usable, hash } = service;
        let ServicePort {
            title, protocol, ..
        } = port;
        let number = port.port;
        let to = |address| format!("-m {protocol} -p {protocol} -d {address} --dport {number}");
        let cluster_ip = to(port.cluster_ip);
        if usable.internal {
            let chain = service.policy_chain(port.internal_local);
            self.nat.rule(format_args!(
                "-A KUBE-SERVICES -m comment --comment \"{title} cluster IP\" \
                 {cluster_ip} -j {chain}"
            ));
        } else {
            let (why, target) = refusal(usable);
            self.filter.rule(format_args!(
                "-A KUBE-SERVICES -m comment --comment \"{title} {why}\" \
                 {cluster_ip} -j {target}"
            ));
        }
        let has_firewall = usable.any && port.has_source_ranges();
        let entry = if has_firewall { "KUBE-FW" } else { "KUBE-EXT" };
        let external = port.external_ips.iter();
        let external = external.map(|ip| (ip, "external IP", "KUBE-EXT"));
        let balanced = port.load_balancer_ips.iter();
        let balanced = balanced.map(|ip| (ip, "loadbalancer IP", entry));
        for (ip, what, entry) in external.chain(balanced) {
            let ip = to(*ip);
            if usable.any {
                self.nat.rule(format_args!(
                    "-A KUBE-SERVICES -m comment --comment \"{title} {what}\" \
                     {ip} -j {entry}-{hash}"
                ));
            }
            if entry == "KUBE-FW" {
                self.filter.rule(format_args!(
                    "-A KUBE-PROXY-FIREWALL -m comment --comment \
                     \"{title} traffic not accepted by KUBE-FW-{hash}\" {ip} -j DROP"
                ));
            }
            if !usable.external {
                let (why, target) = refusal(usable);
                self.filter.rule(format_args!(
                    "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"{title} {why}\" \
                     {ip} -j {target}"
                ));
            }
        }
    }

    fn node_ports(&mut self, service: &Service<'_>) {
        let Service { port, usable, hash } = service;
        let ServicePort {
            title, protocol, ..
        } = port;
        if let Some(number) = port.node_port {
            let to = format!("-m {protocol} -p {protocol} --dport {number}");
            if usable.any {
                self.nat.rule(format_args!(
                    "-A KUBE-NODEPORTS -m comment --comment {title} {to} -j KUBE-EXT-{hash}"
                ));
            }
            if !usable.external {
                let (why, target) = refusal(usable);
                self.filter.rule(format_args!(
                    "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"{title} {why}\" \
                     -m addrtype --dst-type LOCAL {to} -j {target}"
                ));
            }
        }
        if let Some(number) = port.health_check_node_port {
            self.filter.rule(format_args!(
                "-A KUBE-NODEPORTS -m comment --comment \"{title} health check node port\" \
                 -m tcp -p tcp --dport {number} -j ACCEPT"
            ));
        }
    }

    /// Masquerades what comes to a ClusterIP from outside: its answers have to come back
    /// by this Node.
    fn internal(&mut self, service: &Service<'_>) {
        let Service { port, usable, .. } = service;
        let ServicePort {
            title,
            protocol,
            cluster_ip,
            ..
        } = port;
        if usable.internal {
            let chain = service.policy_chain(port.internal_local);
            let (number, pods) = (port.port, self.node.pods);
            self.nat.rule(format_args!(
                "-A {chain} -m comment --comment \"{title} cluster IP\" \
                 -m {protocol} -p {protocol} -d {cluster_ip} --dport {number} \
                 ! -s {pods} -j KUBE-MARK-MASQ"
            ));
        }
    }

    /// The chain for NodePorts, load balancers and external IPs.
    fn external(&mut self, service: &Service<'_>) {
        let Service { port, usable, hash } = service;
        let title = &port.title;
        let about = |what: &str| {
            format!(
                "KUBE-EXT-{hash} -m comment --comment \"{what} for {title} external destinations\""
            )
        };
        self.nat.chain(format_args!("KUBE-EXT-{hash}"));
        if port.external_local {
            let chain = service.policy_chain(false);
            let (rule, pods) = (about("pod traffic"), self.node.pods);
            self.nat
                .rule(format_args!("-A {rule} -s {pods} -j {chain}"));
            let rule = about("masquerade LOCAL traffic");
            self.nat.rule(format_args!(
                "-A {rule} -m addrtype --src-type LOCAL -j KUBE-MARK-MASQ"
            ));
            let rule = about("route LOCAL traffic");
            self.nat.rule(format_args!(
                "-A {rule} -m addrtype --src-type LOCAL -j {chain}"
            ));
        } else {
            let rule = about("masquerade traffic");
            self.nat.rule(format_args!("-A {rule} -j KUBE-MARK-MASQ"));
        }
        if usable.external {
            let chain = service.policy_chain(port.external_local);
            self.nat.rule(format_args!("-A KUBE-EXT-{hash} -j {chain}"));
        }
    }

    /// The chain that lets only some clients to a load balancer's addresses.
    fn firewall(&mut self, service: &Service<'_>) {
        let Service { port, hash, .. } = service;
        let title = &port.title;
        self.nat.chain(format_args!("KUBE-FW-{hash}"));
        for source in port.allowed_sources(self.node) {
            self.nat.rule(format_args!(
                "-A KUBE-FW-{hash} -m comment --comment \"{title} loadbalancer IP\" \
                 -s {source} -j KUBE-EXT-{hash}"
            ));
        }
        self.nat.rule(format_args!(
            "-A KUBE-FW-{hash} -m comment --comment \
             \"other traffic to {title} will be dropped by KUBE-PROXY-FIREWALL\""
        ));
    }

    /// The chain of a traffic policy, which chooses an endpoint.
    fn policy(&mut self, service: &Service<'_>, is_local: bool, endpoints: &[&Endpoint]) {
        if endpoints.is_empty() {
            return;
        }
        let port = service.port;
        let chain = service.policy_chain(is_local);
        self.nat.chain(format_args!("{chain}"));
        let named = endpoints.iter().map(|endpoint| {
            let comment = self.comment(format_args!("\"{} -> {}\"", port.title, endpoint.text));
            (names::iptables_endpoint(port, &endpoint.text), comment)
        });
        let named: Vec<_> = named.collect();
        if let Some(seconds) = port.affinity {
            for (to, comment) in &named {
                self.nat.rule(format_args!(
                    "-A {chain} {comment}-m recent --name {to} --rcheck --seconds {seconds} \
                     --reap -j {to}"
                ));
            }
        }
        for (index, (to, comment)) in named.iter().enumerate() {
            let probability = match named.len() - index {
                1 => String::new(),
                left => probability(left),
            };
            self.nat
                .rule(format_args!("-A {chain} {comment}{probability}-j {to}"));
        }
    }

    /// The chain of one endpoint.
    fn endpoint(&mut self, port: &ServicePort, endpoint: &Endpoint) {
        let ServicePort {
            title, protocol, ..
        } = port;
        let Endpoint { text, address, .. } = endpoint;
        let chain = names::iptables_endpoint(port, text);
        let comment = self.comment(format_args!("{title}"));
        self.nat.chain(format_args!("{chain}"));
        // An endpoint that reaches itself must not see its own address as the client's.
        self.nat.rule(format_args!(
            "-A {chain} {comment}-s {address} -j KUBE-MARK-MASQ"
        ));
        let recent = match port.affinity {
            Some(_) => format!("-m recent --name {chain} --set "),
            None => String::new(),
        };
        self.nat.rule(format_args!(
            "-A {chain} {comment}{recent}-m {protocol} -p {protocol} \
             -j DNAT --to-destination {text}"
        ));
    }

    /// A match that is a comment, if there are few enough.
    fn comment(&self, text: fmt::Arguments<'_>) -> String {
        if self.is_large {
            return String::new();
        }
        format!("-m comment --comment {text} ")
    }

    /// What comes after all Services.
    fn ends(&mut self) {
        let (address, mark) = (self.node.address, MASQUERADE_MARK);
        self.nat.rule(format_args!(
            "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; \
             NOTE: this must be the last rule in this chain\" -d {address} -j KUBE-NODEPORTS"
        ));
        self.filter.rule(format_args!(
            "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
        ));
        self.filter.rule(format_args!(
            "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" \
             -m mark --mark {mark}/{mark} -j ACCEPT"
        ));
        self.filter.rule(format_args!(
            "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" \
             -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        ));
    }
}

/// Why traffic is not taken, and what is done with it.
fn refusal(usable: &Usable<'_>) -> (&'static str, &'static str) {
    if usable.any {
        ("has no local endpoints", "DROP")
    } else {
        ("has no endpoints", "REJECT")
    }
}

/// A match that is true once in as many times.
fn probability(times: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "ten digits are written")]
    let probability = 1.0 / times as f64;
    format!("-m statistic --mode random --probability {probability:.10} ")
}
