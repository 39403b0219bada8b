//! What `proxy-agent check` says of nodes that are written down here, and of this one.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod command;
mod nodes;

use proxy_agent::check::{Facts, State, findings, table};

/// What is said of a node, but for what is as it should be.
fn complaints(facts: &Facts) -> Vec<String> {
    let mut complaints: Vec<_> = findings(facts)
        .into_iter()
        .filter(|finding| finding.state != State::Ok)
        .map(|finding| {
            format!(
                "{} {}: {}",
                finding.state.name(),
                finding.check,
                finding.found
            )
        })
        .collect();
    complaints.sort();
    complaints
}

/// The node as it is printed, held against a file. `UPDATE_GOLDEN=1` writes it.
fn golden(name: &str, text: &str) {
    let file = format!("{}/tests/check/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{name}");
}

#[test]
fn a_fit_node_has_nothing_to_complain_of() {
    let facts = nodes::fit();
    assert_eq!(complaints(&facts), [] as [String; 0]);
    golden("fit.txt", &table(&findings(&facts)));
}

#[test]
fn a_node_of_debian_12_with_kube_proxy_is_told_what_comes_next() {
    let facts = nodes::with_kube_proxy();
    golden("kube-proxy.txt", &table(&findings(&facts)));
    golden(
        "kube-proxy.json",
        &proxy_agent::check::json(&findings(&facts)),
    );
}

#[test]
fn the_manual_shows_what_is_printed() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let shown = manual.split("```text\n").nth(1).unwrap();
    let shown = shown.split("```").next().unwrap();
    let printed = table(&findings(&nodes::with_kube_proxy())) + &table(&findings(&nodes::fit()));
    for line in shown.lines() {
        assert!(printed.contains(&format!("{line}\n")), "{line}");
    }
}

#[test]
fn lines_fit_the_terminal() {
    for facts in [
        nodes::fit(),
        nodes::with_kube_proxy(),
        nodes::without_capabilities(),
    ] {
        for line in table(&findings(&facts)).lines() {
            assert!(line.chars().count() <= 120, "{line}");
        }
    }
}

#[test]
fn who_lacks_capabilities_is_not_told_that_the_kernel_is_too_old() {
    assert_eq!(
        complaints(&nodes::without_capabilities()),
        [
            "error capabilities: this process lacks NET_ADMIN, BPF",
            "unknown kube-proxy: cannot list nftables: EPERM",
            "unknown programs: the programs of devices cannot be tried without capabilities",
            "unknown socket-path: the programs of the socket path cannot be tried without capabilities",
            "unknown xdp: the program of XDP cannot be tried without capabilities",
        ]
    );
}

#[test]
fn each_thing_that_is_wrong_is_found() {
    for (change, complaint) in nodes::CHANGES {
        let mut facts = nodes::fit();
        change(&mut facts);
        assert_eq!(complaints(&facts), [*complaint]);
    }
}
