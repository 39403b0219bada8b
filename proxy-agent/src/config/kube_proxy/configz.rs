//! The settings in force as kube-proxy's `/configz` shows its own.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::settings::{LogLevel, Settings};
use super::{KUBE_PROXY, OWN};
use crate::config::{AttachWay, NO_BPFFS, XdpChoice};

/// A JSON object with a member for each of the two kinds of document, which could be
/// read again as a configuration file.
pub fn configz(node_name: &str, settings: &Settings) -> Value {
    // Taken apart so that a new setting cannot be forgotten here.
    let Settings {
        node_name: _,
        bind_address,
        health_address,
        metrics_address,
        masquerade_all,
        sync_period,
        min_sync_period,
        node_port_addresses,
        kubeconfig,
        log,
        oom_score_adj,
        own,
    } = settings;
    let mut node_ports = Vec::new();
    if node_port_addresses.primary {
        node_ports.push("primary".to_owned());
    }
    node_ports.extend(node_port_addresses.v4.iter().map(ToString::to_string));
    node_ports.extend(node_port_addresses.v6.iter().map(ToString::to_string));
    let external_ips: Vec<_> = own.external_ips.iter().map(ToString::to_string).collect();
    json!({
        "kubeproxy.config.k8s.io": {
            "apiVersion": KUBE_PROXY.0,
            "kind": KUBE_PROXY.1,
            "hostnameOverride": node_name,
            "bindAddress": bind_address.map(|address| address.to_string()).unwrap_or_default(),
            "healthzBindAddress": health_address.to_string(),
            "metricsBindAddress": metrics_address.to_string(),
            "clientConnection": {
                "kubeconfig": kubeconfig.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            },
            // The closest of kube-proxy's modes: here it only says where these three stand.
            "mode": "nftables",
            "nftables": {
                "masqueradeAll": masquerade_all,
                "syncPeriod": go_duration(*sync_period),
                "minSyncPeriod": go_duration(*min_sync_period),
            },
            "nodePortAddresses": node_ports,
            "logging": {
                "format": if log.json { "json" } else { "text" },
                "verbosity": verbosity(log.level),
            },
            "oomScoreAdj": oom_score_adj,
        },
        "proxy-agent": {
            "apiVersion": OWN.0,
            "kind": OWN.1,
            "mapSizes": {
                "frontends": own.maps.frontends,
                "backends": own.maps.backends,
                "slots": own.maps.slots,
                "flows": own.maps.flows,
            },
            "natPorts": own.nat_ports.to_string(),
            "attach": match own.attach {
                AttachWay::Auto => "auto",
                AttachWay::Tcx => "tcx",
                AttachWay::Clsact => "clsact",
            },
            "bpffs": own.bpffs.as_deref().unwrap_or(Path::new(NO_BPFFS)),
            "auditPeriod": go_duration(own.audit_period),
            "xdp": match own.xdp {
                XdpChoice::Auto => "auto",
                XdpChoice::Always => "always",
                XdpChoice::Never => "never",
            },
            "lbAlgorithm": own.algorithm.name(),
            "forwarding": own.forwarding.name(),
            "socketPath": own.socket_path.as_str(),
            "cgroup": own.cgroup.as_ref().map(|path| path.display().to_string()),
            "podOptOut": own.pod_opt_out,
            "resetGoneEndpoints": go_duration(own.reset_gone_endpoints.unwrap_or_default()),
            "externalIPs": external_ips,
        },
    })
}

/// The least verbosity of a level.
fn verbosity(level: LogLevel) -> u8 {
    match level {
        LogLevel::Info => 0,
        LogLevel::Debug => 4,
        LogLevel::Trace => 6,
    }
}

/// A duration as Go reads it.
fn go_duration(duration: Duration) -> String {
    format!("{}ns", duration.as_nanos())
}
