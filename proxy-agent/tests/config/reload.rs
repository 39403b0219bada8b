//! What a changed file changes at run time.

use std::path::Path;

use proxy_agent::config::kube_proxy::{Changes, Settings, diff, parse};

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
const OWN: &str = "---\napiVersion: proxy-agent/v1alpha1\nkind: ProxyAgentConfiguration\n";

fn settings(text: &str) -> Settings {
    let text = format!("{HEADER}{text}");
    let parsed = parse(&text, Path::new("f")).unwrap_or_else(|error| panic!("{error}"));
    parsed.settings
}

#[test]
fn each_setting_is_changed_at_run_time_or_asks_for_a_restart() {
    let own = |text: &str| format!("{OWN}{text}");
    for (text, hot, restart) in [
        ("bindAddress: 192.0.2.1", Some("bindAddress"), None),
        (
            "iptables: {masqueradeAll: true}",
            Some("masqueradeAll"),
            None,
        ),
        ("iptables: {syncPeriod: 10s}", Some("syncPeriod"), None),
        (
            "iptables: {minSyncPeriod: 10s}",
            Some("minSyncPeriod"),
            None,
        ),
        (
            "nodePortAddresses: [primary]",
            Some("nodePortAddresses"),
            None,
        ),
        ("logging: {verbosity: 4}", Some("logging.verbosity"), None),
        ("oomScoreAdj: -1", Some("oomScoreAdj"), None),
        (&own("externalIPs: [10.0.0.0/8]"), Some("externalIPs"), None),
        ("hostnameOverride: a", None, Some("hostnameOverride")),
        (
            "healthzBindAddress: 127.0.0.1",
            None,
            Some("healthzBindAddress"),
        ),
        (
            "metricsBindAddress: 0.0.0.0",
            None,
            Some("metricsBindAddress"),
        ),
        (
            "clientConnection: {kubeconfig: /f}",
            None,
            Some("clientConnection.kubeconfig"),
        ),
        ("logging: {format: json}", None, Some("logging.format")),
        (&own("mapSizes: {flows: 16}"), None, Some("mapSizes")),
        (&own("natPorts: 1024-2047"), None, Some("natPorts")),
        (&own("attach: tcx"), None, Some("attach")),
        (&own("xdp: never"), None, Some("xdp")),
        (&own("lbAlgorithm: maglev"), None, Some("lbAlgorithm")),
        (&own("forwarding: dsr"), None, Some("forwarding")),
        (&own("socketPath: off"), None, Some("socketPath")),
        (&own("cgroup: /c"), None, Some("cgroup")),
        (&own("podOptOut: true"), None, Some("podOptOut")),
        (
            &own("resetGoneEndpoints: 1s"),
            None,
            Some("resetGoneEndpoints"),
        ),
        (&own("resetGoneEndpoints: 0s"), None, None),
    ] {
        let wanted = Changes {
            hot: hot.into_iter().collect(),
            restart: restart.into_iter().collect(),
        };
        assert_eq!(diff(&settings(""), &settings(text)), wanted, "{text}");
        assert_eq!(diff(&settings(text), &settings("")), wanted, "{text}");
        assert_eq!(diff(&settings(text), &settings(text)), Changes::default());
    }
}

#[test]
fn a_field_without_effect_changes_nothing() {
    let changed = settings("ipvs: {scheduler: sh}\nclusterCIDR: 10.0.0.0/8");
    assert_eq!(diff(&settings(""), &changed), Changes::default());
}

#[test]
fn another_mode_changes_what_its_section_says() {
    let sections = "nftables: {masqueradeAll: true, syncPeriod: 1m}\n";
    let changes = diff(
        &settings(&format!("{sections}mode: ipvs")),
        &settings(&format!("{sections}mode: nftables")),
    );
    assert_eq!(
        changes.hot,
        ["masqueradeAll", "syncPeriod", "nodePortAddresses"]
    );
}
