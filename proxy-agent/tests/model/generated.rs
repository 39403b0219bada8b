//! Cases made from tables.
//!
//! An endpoint is written as its letter, its state (R ready, T terminating and
//! serving, N not ready, X terminating and not serving, P published although it
//! terminates), `@` where it is on this node, and its hints: `z=z1,z2` zones,
//! `n=here,there` nodes. The outcome is written in the same letters.

use std::fmt::Write;

use super::case::Case;

/// Name, endpoints, those that are kept, the cluster set, the local set.
const READINESS: &[(&str, &str, &str, &str, &str)] = &[
    ("no endpoint", "", "", "", ""),
    ("ready here", "aR@", "a", "a", "a"),
    ("ready elsewhere", "aR", "a", "a", ""),
    ("ready here and elsewhere", "aR@; bR", "ab", "ab", "a"),
    ("not ready", "aN@; bN", "", "", ""),
    ("terminating everywhere", "aT@; bT", "ab", "ab", "a"),
    ("gone but listed", "aX@; bX", "", "", ""),
    (
        "terminating here, ready elsewhere",
        "aT@; bR",
        "ab",
        "b",
        "a",
    ),
    (
        "ready here, terminating elsewhere",
        "aR@; bT",
        "ab",
        "a",
        "a",
    ),
    ("ready and terminating here", "aR@; bT@", "ab", "a", "a"),
    ("not ready here, ready elsewhere", "aN@; bR", "b", "b", ""),
    (
        "terminating here, not ready elsewhere",
        "aT@; bN",
        "a",
        "a",
        "a",
    ),
    ("published while terminating", "aP@; bR", "ab", "ab", "a"),
    (
        "some of each",
        "aR@; bR; cT@; dT; eN@; fX",
        "abcd",
        "ab",
        "a",
    ),
];

/// Every pair of policies, and every set of families.
pub(crate) fn readiness() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, endpoints, kept, cluster, local) in READINESS {
        for policies in [
            ["Cluster", "Cluster"],
            ["Cluster", "Local"],
            ["Local", "Cluster"],
            ["Local", "Local"],
        ] {
            for families in ["4", "6", "46", "64"] {
                let mut objects = service(families, policies);
                let mut expected = String::new();
                for family in ['4', '6'].into_iter().filter(|f| families.contains(*f)) {
                    objects += &slice(family, endpoints);
                    expected += &outcome(family, policies, endpoints, [kept, cluster, local]);
                }
                let name = format!("{name}, {policies:?}, families {families}");
                cases.push(Case::new(name, objects, &expected));
            }
        }
    }
    cases
}

/// Name, endpoints, and the cluster set of a node in z1, in z2, and in none.
const HINTS: &[(&str, &str, [&str; 3])] = &[
    ("none has hints", "aR; bR", ["ab", "ab", "ab"]),
    ("zones", "aR z=z1; bR z=z2; cR z=z2", ["a", "bc", "abc"]),
    ("zones that share", "aR z=z2,z1; bR z=z2", ["a", "ab", "ab"]),
    ("zones, one without", "aR z=z1; bR", ["ab", "ab", "ab"]),
    ("zones of others", "aR z=z3; bR z=z4", ["ab", "ab", "ab"]),
    ("nodes", "aR n=here; bR n=there", ["a", "a", "a"]),
    (
        "nodes that share",
        "aR n=there,here; bR n=there",
        ["a", "a", "a"],
    ),
    ("nodes, one without", "aR n=here; bR", ["ab", "ab", "ab"]),
    (
        "nodes of others",
        "aR n=there; bR n=where",
        ["ab", "ab", "ab"],
    ),
    (
        "nodes before zones",
        "aR n=here z=z2; bR n=there z=z1",
        ["a", "a", "a"],
    ),
    (
        "not all nodes, all zones",
        "aR n=here z=z2; bR z=z1",
        ["b", "a", "ab"],
    ),
    (
        "nodes of others, zones",
        "aR n=there z=z1; bR n=there z=z2",
        ["a", "b", "ab"],
    ),
    (
        "the unready do not count",
        "aR z=z1; bR z=z2; cN; dX",
        ["a", "b", "ab"],
    ),
    (
        "the unready of the zone do not count",
        "aN z=z1; bR z=z2",
        ["b", "b", "b"],
    ),
    (
        "the terminating do not count",
        "aR z=z1; bR z=z2; cT",
        ["a", "b", "ab"],
    ),
    (
        "all terminate",
        "aT z=z2; bT z=z1; cT n=here",
        ["abc", "abc", "abc"],
    ),
    (
        "published while terminating",
        "aP z=z1; bR z=z2",
        ["a", "b", "ab"],
    ),
    (
        "the local are not the near",
        "aR@ z=z2; bR z=z1",
        ["b", "a", "ab"],
    ),
    ("one endpoint in another zone", "aR@ z=z9", ["a", "a", "a"]),
];

/// Every place of the node, and both families.
pub(crate) fn hints() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, endpoints, clusters) in HINTS {
        for (zone, cluster) in ["z1", "z2", ""].iter().zip(clusters) {
            for family in ['4', '6'] {
                let policies = ["Cluster", "Cluster"];
                let mut objects = service(&family.to_string(), policies);
                objects += &slice(family, endpoints);
                let labels = if zone.is_empty() {
                    String::new()
                } else {
                    format!(", labels: {{topology.kubernetes.io/zone: {zone}}}")
                };
                let _ = write!(objects, "\n--- Node\nmetadata: {{name: here{labels}}}\n");
                let kept = letters(endpoints, |text| matches!(&text[1..2], "R" | "T" | "P"));
                let local = letters(endpoints, |text| text.contains('@'));
                let expected = outcome(family, policies, endpoints, [&kept, cluster, &local]);
                let name = format!("hints: {name}, node in {zone:?}, family {family}");
                cases.push(Case::new(name, objects, &expected));
            }
        }
    }
    cases
}

fn service(families: &str, [internal, external]: [&str; 2]) -> String {
    let addresses = families
        .replace('4', "10.1.0.1 ")
        .replace('6', "'fd01::1' ");
    let addresses = addresses.trim().replace(' ', ", ");
    format!(
        "\n--- Service\nmetadata: {{name: a}}\nspec:\n  type: NodePort\n  \
         clusterIPs: [{addresses}]\n  internalTrafficPolicy: {internal}\n  \
         externalTrafficPolicy: {external}\n  ports: [{{name: p, port: 80, nodePort: 30080}}]\n"
    )
}

fn slice(family: char, endpoints: &str) -> String {
    let mut text = format!(
        "\n--- EndpointSlice\nmetadata: {{name: a-{family}, labels: {{kubernetes.io/service-name: a}}}}\n\
         addressType: IPv{family}\nports: [{{name: p, port: 8080}}]\nendpoints:\n"
    );
    for endpoint in split(endpoints) {
        let mut words = endpoint.split(' ');
        let place = words.next().unwrap_or_default();
        let (ready, serving, terminating) = match &place[1..2] {
            "R" => (true, true, false),
            "T" => (false, true, true),
            "N" => (false, false, false),
            "X" => (false, false, true),
            "P" => (true, true, true),
            state => panic!("no state {state}"),
        };
        let node = if place.ends_with('@') {
            "here"
        } else {
            "there"
        };
        let address = address(family, endpoint);
        let _ = write!(
            text,
            "- addresses: ['{address}']\n  nodeName: {node}\n  conditions: \
             {{ready: {ready}, serving: {serving}, terminating: {terminating}}}\n  hints:\n"
        );
        for word in words {
            let (what, names) = word.split_once('=').expect("a hint has names");
            let what = if what == "z" { "forZones" } else { "forNodes" };
            let names: Vec<_> = names
                .split(',')
                .map(|name| format!("{{name: {name}}}"))
                .collect();
            let _ = writeln!(text, "    {what}: [{}]", names.join(", "));
        }
    }
    text
}

fn outcome(
    family: char,
    [internal, external]: [&str; 2],
    endpoints: &str,
    [kept, cluster, local]: [&str; 3],
) -> String {
    let frontends = match family {
        '4' => "node:0.0.0.0:30080 10.1.0.1:80",
        _ => "node:[::]:30080 [fd01::1]:80",
    };
    let mut line = format!("a:p/TCP/{family} = {frontends} ->");
    for endpoint in split(endpoints).filter(|endpoint| kept.contains(&endpoint[..1])) {
        let address = address(family, endpoint);
        let address = if family == '4' {
            address
        } else {
            format!("[{address}]")
        };
        let mark = |letters: &str, mark| {
            if letters.contains(&endpoint[..1]) {
                mark
            } else {
                ""
            }
        };
        let at = if endpoint.contains('@') { "@" } else { "" };
        let _ = write!(
            line,
            " {address}:8080/{}{}{at}",
            mark(cluster, "c"),
            mark(local, "l")
        );
    }
    for (name, policy) in [("internal", internal), ("external", external)] {
        if policy == "Local" {
            let _ = write!(line, " {name}=Local");
        }
    }
    line + "\n"
}

fn split(endpoints: &str) -> impl Iterator<Item = &str> {
    endpoints
        .split("; ")
        .filter(|endpoint| !endpoint.is_empty())
}

fn letters(endpoints: &str, select: impl Fn(&str) -> bool) -> String {
    split(endpoints)
        .filter(|endpoint| select(endpoint))
        .map(|endpoint| &endpoint[..1])
        .collect()
}

fn address(family: char, endpoint: &str) -> String {
    let number = endpoint.as_bytes()[0] - b'a' + 1;
    match family {
        '4' => format!("10.0.0.{number}"),
        _ => format!("fd00::{number}"),
    }
}
