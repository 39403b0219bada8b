//! The rules are loaded into a kernel and compared with what kube-proxy wrote for the
//! same objects, both as `nft` and `iptables-save` print them.

use std::{collections::BTreeMap, fs, fs::File};

use proxy_tests::lab::{Directory, Namespace};
use serde_json::json;

use super::{super::objects::Objects, *};

const OBJECTS: &str = include_str!("fixtures/objects.json");
const NFTABLES: &str = include_str!("fixtures/nftables-1.36.txt");
const IPTABLES: &str = include_str!("fixtures/iptables-1.36.txt");

/// The tests that load rules need root and the tools.
const NEEDS: &str = "(root, and the tools of `cargo xtask setup`)";

fn node() -> Node {
    Node {
        name: "n1".into(),
        address: Ipv4Addr::new(172, 31, 0, 11),
        pods: "10.244.0.0/16".parse().unwrap(),
        services: "10.96.0.0/12".parse().unwrap(),
    }
}

fn recorded_objects() -> Vec<Value> {
    serde_json::from_str(OBJECTS).unwrap()
}

/// A network namespace of the test's own.
struct Lab {
    directory: Directory,
    namespace: Namespace,
}

impl Lab {
    fn create() -> Self {
        let directory = Directory::create().expect(NEEDS);
        let made = Namespace::create(directory.name(), &["rules"]).expect(NEEDS);
        let namespace = made.into_iter().next().unwrap();
        Self {
            directory,
            namespace,
        }
    }

    /// Runs a program inside; what it printed.
    fn run(&self, program: &[&str], input: &str) -> String {
        let file = self.directory.path().join("input");
        fs::write(&file, input).unwrap();
        let mut command = self.namespace.command(program[0]);
        let command = command
            .args(&program[1..])
            .stdin(File::open(&file).unwrap());
        let output = command.output().expect(NEEDS);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn load_nftables(&self, rules: &Rules) -> String {
        self.run(&["nft", "-f", "-"], &rules.nftables());
        self.run(&["nft", "list", "table", "ip", "kube-proxy"], "")
    }

    fn load_iptables(&self, rules: &Rules) -> String {
        self.run(&["iptables-restore", "--noflush"], &rules.iptables());
        self.run(&["iptables-save"], "")
    }
}

/// The objects of a table as `nft` lists it: their lines by their first one. Lines of
/// rules stay in order; elements, of which the kernel's order is that of a hash, are
/// sorted, and left out where packets add them.
fn listed(table: &str) -> BTreeMap<&str, Vec<String>> {
    let mut objects = BTreeMap::new();
    for object in table.split("\n\n") {
        let object = object.trim_start_matches("table ip kube-proxy {\n");
        let object = object.trim_start_matches("\tcomment \"rules for kube-proxy\"\n");
        let (first, rest) = object.split_once('\n').unwrap();
        let (properties, elements) = match rest.split_once("elements = {") {
            Some((properties, elements)) => (properties, elements.split_once('}').unwrap().0),
            None => (rest, ""),
        };
        let lines = properties.lines().map(|line| line.trim().to_owned());
        let lines = lines.filter(|line| !line.is_empty() && line != "}");
        let mut lines: Vec<_> = lines.collect();
        if !lines.iter().any(|line| line.contains("dynamic")) {
            let elements = elements.split(',').map(|it| it.trim().to_owned());
            let mut elements: Vec<_> = elements.filter(|it| !it.is_empty()).collect();
            elements.sort();
            lines.extend(elements);
        }
        objects.insert(first.trim(), lines);
    }
    objects
}

/// The tables that iptables-save prints: for each, the rules of each chain. Those that
/// kube-proxy writes in the order in which it comes upon Services are sorted, but for one
/// that has to be last.
fn saved(tables: &str) -> BTreeMap<(&str, &str), Vec<String>> {
    let by_service = [
        "KUBE-SERVICES",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-PROXY-FIREWALL",
    ];
    let mut chains = BTreeMap::<_, Vec<_>>::new();
    let mut table = "";
    for line in tables.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let (chain, policy) = chain.split_once(' ').unwrap();
            let policy = policy.split_once(" [").unwrap().0;
            chains.insert((table, chain), vec![policy.to_owned()]);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap();
            // A counter that is no part of the rules, see the module.
            let rule = rule.replace(
                "-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts ",
                "",
            );
            chains.get_mut(&(table, chain)).unwrap().push(rule);
        }
    }
    for ((_, chain), rules) in &mut chains {
        if by_service.contains(chain) {
            let is_last = |rule: &String| rule.contains("NOTE: this must be the last rule");
            let to = rules.len() - usize::from(rules.last().is_some_and(is_last));
            rules[1..to].sort();
        }
    }
    chains
}

/// Fails with what is only in one of them.
fn assert_same<K: Ord + std::fmt::Debug>(
    ours: &BTreeMap<K, Vec<String>>,
    recorded: &BTreeMap<K, Vec<String>>,
) {
    let keys = ours.keys().chain(recorded.keys());
    let differs = keys.filter(|key| ours.get(key) != recorded.get(key));
    let differences: Vec<_> = differs
        .map(|key| (key, ours.get(key), recorded.get(key)))
        .collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn nftables_are_those_of_kube_proxy() {
    let rules = Rules::of(&node(), recorded_objects()).unwrap();
    let table = Lab::create().load_nftables(&rules);
    let recorded = listed(NFTABLES);
    let is_object = |line: &&str| line.starts_with('\t') && line.ends_with(" {");
    assert_eq!(recorded.len(), NFTABLES.lines().filter(is_object).count());
    assert_same(&listed(&table), &recorded);
}

#[test]
fn iptables_are_those_of_kube_proxy() {
    let rules = Rules::of(&node(), recorded_objects()).unwrap();
    let tables = Lab::create().load_iptables(&rules);
    let recorded = saved(IPTABLES);
    let count: usize = recorded.values().map(|rules| rules.len() - 1).sum();
    assert_eq!(count, IPTABLES.matches("\n-A ").count());
    assert_same(&saved(&tables), &recorded);
}

#[test]
fn nftables_can_be_loaded_again() {
    let rules = Rules::of(&node(), recorded_objects()).unwrap();
    let lab = Lab::create();
    let first = lab.load_nftables(&rules);
    let second = lab.load_nftables(&rules);
    assert_same(&listed(&second), &listed(&first));
}

/// Cases of which nothing is recorded: that the kernel takes their rules.
#[test]
fn rules_of_services_without_endpoints_here_are_loaded() {
    let mut objects = recorded_objects();
    let away = Node {
        name: "n3".into(),
        // In a source range, which lets the load balancer's own address in as well.
        address: Ipv4Addr::new(198, 51, 100, 1),
        ..node()
    };
    let ports = json!([{"name": "p", "port": 80, "nodePort": 30090}]);
    objects.push(json!({
        "kind": "Service",
        "metadata": {"name": "none", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "clusterIPs": ["10.96.1.12"], "ports": ports,
            "externalTrafficPolicy": "Local", "healthCheckNodePort": 30091,
            "loadBalancerSourceRanges": ["198.51.100.0/24", "203.0.113.0/24"],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.12"}]}},
    }));
    let rules = Rules::of(&away, &objects).unwrap();
    let lab = Lab::create();
    let table = lab.load_nftables(&rules);
    let drops = "tcp . 30081 comment \"default/nodeport-local:p\" : drop";
    let rejects = "tcp . 30090 comment \"default/none:p\" : goto reject-chain";
    let objects = listed(&table);
    let refused = &objects["map no-endpoint-nodeports {"];
    assert_eq!(refused[2..], [drops, rejects]);
    let tables = Lab::create().load_iptables(&rules);
    for rule in [
        "-A KUBE-FW-D5LO5VIPVQ6PDKH3 -s 192.0.2.10/32 -m comment --comment \
         \"default/lb-ranges:p loadbalancer IP\" -j KUBE-EXT-D5LO5VIPVQ6PDKH3",
        "-A KUBE-EXTERNAL-SERVICES -p tcp -m comment --comment \
         \"default/nodeport-local:p has no local endpoints\" -m addrtype --dst-type LOCAL \
         -m tcp --dport 30081 -j DROP",
        "-A KUBE-NODEPORTS -p tcp -m comment --comment \
         \"default/none:p health check node port\" -m tcp --dport 30091 -j ACCEPT",
    ] {
        assert!(tables.contains(rule), "{rule}\nis not in\n{tables}");
    }
}

#[test]
fn rules_of_a_thousand_services_are_loaded() {
    // Few endpoints: what iptables-restore (nf_tables) takes grows faster than the number
    // of chains.
    let objects = Objects::new(1000, 2, false).unwrap();
    let rules = Rules::of(&node(), objects.all()).unwrap();
    let lab = Lab::create();
    let table = lab.load_nftables(&rules);
    assert_eq!(table.matches(" : goto service-").count(), 1000);
    assert_eq!(table.matches("numgen random mod 2 map").count(), 1000);
    let tables = lab.load_iptables(&rules);
    assert_eq!(tables.matches("\n:KUBE-SVC-").count(), 1000);
    assert_eq!(tables.matches("--to-destination").count(), 2000);
    assert!(!tables.contains(" -> "), "a comment for each endpoint");
}

#[test]
fn names_are_those_of_kube_proxy() {
    let rules = Rules::of(&node(), recorded_objects()).unwrap();
    let named = |title| rules.ports.iter().find(|it| it.title == title).unwrap();
    let port = named("default/nodeport:p");
    assert_eq!(names::iptables_service(port), "A2C74KHDB66B537F");
    let endpoint = names::iptables_endpoint(port, "10.244.2.11:8080");
    assert_eq!(endpoint, "KUBE-SEP-6ELBZ7LIURG7OED4");
    let name = "47Z5M6PG-default/nodeport/tcp/p";
    assert_eq!(names::nftables_service(port), name);
    let endpoint = names::nftables_endpoint(named("default/affinity:p"), "10.244.1.10:8080");
    assert_eq!(
        endpoint,
        "4PYBCFRV-default/affinity/tcp/p__10.244.1.10/8080"
    );
    let udp = names::iptables_service(named("default/clusterip-udp:p"));
    assert_eq!(udp, "JMZYKMZ5SI26M53T");
}

#[test]
fn endpoints_that_end_are_used_when_none_is_ready() {
    let slice = |conditions: [Value; 2]| {
        let address = |node| format!("10.244.{node}.10");
        let endpoints = (1..).zip(conditions).map(|(node, conditions)| {
            json!({
                "addresses": [address(node)], "conditions": conditions,
                "nodeName": format!("n{node}"),
            })
        });
        json!({
            "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "s-1", "namespace": "default",
                "labels": {"kubernetes.io/service-name": "s"},
            },
            "ports": [{"port": 8080}], "endpoints": endpoints.collect::<Vec<_>>(),
        })
    };
    let service = json!({
        "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {
            "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}],
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local",
            "externalIPs": ["192.0.2.1"],
        },
    });
    let ready = json!({});
    let ending = json!({"ready": false, "serving": true, "terminating": true});
    let not_ready = json!({"ready": false});
    let (here, there) = ("10.244.1.10:8080", "10.244.2.10:8080");
    for (conditions, cluster, local, reachable) in [
        ([&ready, &ready], &[here, there][..], &[here][..], 2),
        ([&ready, &ending], &[here], &[here], 1),
        ([&ending, &ready], &[there], &[here], 2),
        ([&ending, &ending], &[here, there], &[here], 2),
        ([&not_ready, &ready], &[there], &[], 1),
        ([&not_ready, &not_ready], &[], &[], 0),
    ] {
        let objects = [slice(conditions.map(Clone::clone)), service.clone()];
        let rules = Rules::of(&node(), objects).unwrap();
        let usable = rules.ports[0].usable();
        let texts = |of: &[&Endpoint]| of.iter().map(|it| it.text.clone()).collect::<Vec<_>>();
        assert_eq!(texts(&usable.cluster), cluster, "{conditions:?}");
        assert_eq!(texts(&usable.local), local, "{conditions:?}");
        assert_eq!(usable.reachable.len(), reachable, "{conditions:?}");
        assert_eq!(usable.any, !cluster.is_empty(), "{conditions:?}");
        assert_eq!(usable.external, !local.is_empty(), "{conditions:?}");
    }
}
