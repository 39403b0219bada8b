//! The settings in force, shown.

use std::path::Path;

use proxy_agent::config::kube_proxy::{Settings, configz, in_force, parse};

const HEADER: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

fn settings(text: &str) -> Settings {
    let parsed = parse(&format!("{HEADER}{text}"), Path::new("f"));
    parsed.unwrap_or_else(|error| panic!("{error}")).settings
}

const ALL: &str = "hostnameOverride: node-7
bindAddress: fd00::7
healthzBindAddress: 0.0.0.0:10356
metricsBindAddress: '[::1]:10349'
clientConnection: {kubeconfig: /etc/proxy.conf}
iptables: {masqueradeAll: true, syncPeriod: 1m30s, minSyncPeriod: 1500ms}
nodePortAddresses: [primary, 10.0.0.0/8, 'fd00::/8']
logging: {format: json, verbosity: 5}
oomScoreAdj: -999
---
apiVersion: proxy-agent/v1alpha1
kind: ProxyAgentConfiguration
mapSizes: {frontends: 100, backends: 200, slots: 300, flows: 400}
natPorts: 50000-50999
attach: clsact
xdp: always
lbAlgorithm: maglev
forwarding: dsr
socketPath: host-only
cgroup: /c
podOptOut: true
resetGoneEndpoints: 30s
externalIPs: [198.51.100.0/24, '2001:db8::/64']
";

#[test]
fn what_is_shown_reads_as_the_same_settings() {
    for text in [
        ALL,
        "hostnameOverride: node-7\n",
        "hostnameOverride: a\nnodePortAddresses: [all]\n",
    ] {
        let settings = settings(text);
        let shown = configz(settings.node_name.as_deref().unwrap(), &settings);
        assert_eq!(shown.as_object().unwrap().len(), 2);
        let mut kube_proxy = shown["kubeproxy.config.k8s.io"].clone();
        // What is not set is shown as null or empty.
        let fields = kube_proxy.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null() && value != "");
        let text = format!("{kube_proxy}\n---\n{}\n", shown["proxy-agent"]);
        let again = parse(&text, Path::new("shown")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.settings, settings);
        assert_eq!(again.ignored, []);
    }
}

#[test]
fn what_needs_a_restart_is_in_force_as_it_was_at_the_start() {
    let start = settings("hostnameOverride: a\n");
    let mixed = in_force(&start, &settings(ALL));
    assert!(mixed.masquerade_all);
    assert_eq!(mixed.own.external_ips.len(), 2);
    assert_eq!(mixed.log.level.name(), "debug");
    let mut expected = settings(ALL);
    expected.node_name = start.node_name;
    expected.health_address = start.health_address;
    expected.metrics_address = start.metrics_address;
    expected.kubeconfig = start.kubeconfig;
    expected.log.json = false;
    expected.own.maps = start.own.maps;
    expected.own.nat_ports = start.own.nat_ports;
    expected.own.attach = start.own.attach;
    expected.own.xdp = start.own.xdp;
    expected.own.algorithm = start.own.algorithm;
    expected.own.forwarding = start.own.forwarding;
    expected.own.socket_path = start.own.socket_path;
    expected.own.cgroup = start.own.cgroup;
    expected.own.pod_opt_out = start.own.pod_opt_out;
    expected.own.reset_gone_endpoints = start.own.reset_gone_endpoints;
    assert_eq!(mixed, expected);
}
