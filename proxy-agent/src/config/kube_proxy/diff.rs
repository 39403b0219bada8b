//! What a changed file changes at run time.

use super::own::OwnSettings;
use super::settings::{LogSettings, Settings};

/// The names of settings that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect at once.
    pub hot: Vec<&'static str>,
    /// Those that need a restart.
    pub restart: Vec<&'static str>,
}

/// What is different in `new`.
pub fn diff(old: &Settings, new: &Settings) -> Changes {
    // Taken apart so that a new setting cannot be forgotten here.
    let Settings {
        node_name,
        bind_address,
        health_address,
        metrics_address,
        masquerade_all,
        sync_period,
        min_sync_period,
        node_port_addresses,
        kubeconfig,
        log: LogSettings { level, json },
        oom_score_adj,
        own:
            OwnSettings {
                maps,
                nat_ports,
                attach,
                bpffs,
                audit_period,
                xdp,
                algorithm,
                forwarding,
                socket_path,
                cgroup,
                pod_opt_out,
                reset_gone_endpoints,
                external_ips,
            },
    } = old;
    let mut changes = Changes::default();
    for (name, is_changed) in [
        ("bindAddress", *bind_address != new.bind_address),
        ("masqueradeAll", *masquerade_all != new.masquerade_all),
        ("syncPeriod", *sync_period != new.sync_period),
        ("minSyncPeriod", *min_sync_period != new.min_sync_period),
        (
            "nodePortAddresses",
            *node_port_addresses != new.node_port_addresses,
        ),
        ("logging.verbosity", *level != new.log.level),
        ("oomScoreAdj", *oom_score_adj != new.oom_score_adj),
        ("externalIPs", *external_ips != new.own.external_ips),
    ] {
        if is_changed {
            changes.hot.push(name);
        }
    }
    for (name, is_changed) in [
        // All that is known is this node's.
        ("hostnameOverride", *node_name != new.node_name),
        // Sockets, of which others may hold the new ones: better known at a start.
        ("healthzBindAddress", *health_address != new.health_address),
        (
            "metricsBindAddress",
            *metrics_address != new.metrics_address,
        ),
        ("clientConnection.kubeconfig", *kubeconfig != new.kubeconfig),
        ("logging.format", *json != new.log.json),
        // The kernel's maps have one size for life.
        ("mapSizes", *maps != new.own.maps),
        // Flows have ports of the old range.
        ("natPorts", *nat_ports != new.own.nat_ports),
        ("attach", *attach != new.own.attach),
        ("bpffs", *bpffs != new.own.bpffs),
        ("auditPeriod", *audit_period != new.own.audit_period),
        ("xdp", *xdp != new.own.xdp),
        // The connections of all Services would move at once.
        ("lbAlgorithm", *algorithm != new.own.algorithm),
        ("forwarding", *forwarding != new.own.forwarding),
        ("socketPath", *socket_path != new.own.socket_path),
        ("cgroup", *cgroup != new.own.cgroup),
        ("podOptOut", *pod_opt_out != new.own.pod_opt_out),
        // Which endpoints are gone is known from the start on.
        (
            "resetGoneEndpoints",
            *reset_gone_endpoints != new.own.reset_gone_endpoints,
        ),
    ] {
        if is_changed {
            changes.restart.push(name);
        }
    }
    changes
}

/// The settings that hold after `new` was read at run time: what needs a restart is as
/// at the start.
pub fn in_force(at_start: &Settings, new: &Settings) -> Settings {
    Settings {
        bind_address: new.bind_address,
        masquerade_all: new.masquerade_all,
        sync_period: new.sync_period,
        min_sync_period: new.min_sync_period,
        node_port_addresses: new.node_port_addresses.clone(),
        oom_score_adj: new.oom_score_adj,
        log: LogSettings {
            level: new.log.level,
            ..at_start.log
        },
        own: OwnSettings {
            external_ips: new.own.external_ips.clone(),
            ..at_start.own.clone()
        },
        ..at_start.clone()
    }
}
