//! The fields of `KubeProxyConfiguration` that are no settings here, or are one in some of
//! kube-proxy's modes, of kube-proxy 1.33 to 1.36, with those
//! that older versions had and files still have
//! (<https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/>).

use std::sync::LazyLock;

use super::field::{Field, Kind, nothing, of_modes, used};
use super::table::settings_of;
use super::{KUBE_PROXY, OWN};
use Kind::{
    Bool, Cidrs, Duration, DurationOrNanos, Flags, Integer, Number, OneOf, PortRange, Quantity,
    Text, Verbosities, Version,
};

/// kube-proxy's modes on Linux; the empty one is iptables.
const MODES: &[&str] = &["", "iptables", "ipvs", "nftables"];

/// Those that read `iptables.masqueradeAll`.
const NOT_NFTABLES: &[&str] = &["", "iptables", "ipvs"];
const IPTABLES: &[&str] = &["", "iptables"];
const IPVS: &[&str] = &["ipvs"];
const NFTABLES: &[&str] = &["nftables"];

const LOCAL_MODES: &[&str] = &[
    "",
    "ClusterCIDR",
    "NodeCIDR",
    "BridgeInterface",
    "InterfaceNamePrefix",
];

const FALSE: &[&str] = &["false"];
const NO_TEXT: &[&str] = &[""];
const NONE: &[&str] = &[""];
const ZERO: &[&str] = &["0s"];
const ANY_INT: Kind = Integer(i32::MIN as i64, i32::MAX as i64);
const COUNT: Kind = Integer(0, i32::MAX as i64);
const BIT: Kind = Integer(0, 31);
const BUFFER: &[&str] = &["", "0"];
const SYNC: &[&str] = &["0s", "30s"];
const MIN_SYNC: &[&str] = &["0s", "1s"];

const FEATURES: &str = "kube-proxy's feature gates mean nothing to this proxy";
const CLIENT: &str = "the client of the API server sees to it";
const LOGS: &str = "logs are written at once to standard error; levels by module are set with \
                    --log-level";
const MARKS: &str = "packets are not marked";
const SYSTEM: &str = "connections are tracked in this proxy's own maps; conntrack is left as it is";
const DEVICE: &str = "clients that are Pods of this node are known by the device that their packets \
                      come by";
const NO_IPVS: &str = "IPVS is not used";
const WINDOWS: &str = "it is for Windows";
const GONE: &str = "kube-proxy has no such field any more";

/// The fields but for settings.
pub(super) const FIELDS: &[Field] = &[
    used("apiVersion", Text),
    used("kind", Text),
    // It has none, but kind's template gives it a name.
    used("metadata.name", Text),
    nothing("featureGates", Flags, NONE, FEATURES),
    nothing("clientConnection.acceptContentTypes", Text, NO_TEXT, CLIENT),
    nothing(
        "clientConnection.contentType",
        Text,
        &["", "application/vnd.kubernetes.protobuf"],
        CLIENT,
    ),
    nothing("clientConnection.qps", Number, &["0", "5"], CLIENT),
    nothing("clientConnection.burst", COUNT, &["0", "10"], CLIENT),
    nothing(
        "logging.flushFrequency",
        DurationOrNanos,
        &["0s", "5s"],
        LOGS,
    ),
    nothing("logging.vmodule", Verbosities, NONE, LOGS),
    nothing("logging.options.text.splitStream", Bool, FALSE, LOGS),
    nothing(
        "logging.options.text.infoBufferSize",
        Quantity,
        BUFFER,
        LOGS,
    ),
    nothing("logging.options.json.splitStream", Bool, FALSE, LOGS),
    nothing(
        "logging.options.json.infoBufferSize",
        Quantity,
        BUFFER,
        LOGS,
    ),
    nothing(
        "bindAddressHardFail",
        Bool,
        FALSE,
        "a port that cannot be had is an error in the log; Services are served all the same",
    ),
    nothing("enableProfiling", Bool, FALSE, "there is no /debug/pprof"),
    nothing(
        "showHiddenMetricsForVersion",
        Version,
        NO_TEXT,
        "no metrics are hidden",
    ),
    used("mode", OneOf(MODES)),
    nothing("iptables.masqueradeBit", BIT, &["14"], MARKS),
    of_modes("iptables.masqueradeAll", Bool, NOT_NFTABLES, FALSE),
    nothing(
        "iptables.localhostNodePorts",
        Bool,
        &["true"],
        "packets to loopback addresses are never routed to NodePorts",
    ),
    nothing(
        "iptables.snatNodeInternalIP",
        Bool,
        FALSE,
        "the source is the node's address on the way to the backend",
    ),
    of_modes("iptables.syncPeriod", Duration, IPTABLES, SYNC),
    of_modes("iptables.minSyncPeriod", Duration, IPTABLES, MIN_SYNC),
    of_modes("ipvs.syncPeriod", Duration, IPVS, SYNC),
    of_modes("ipvs.minSyncPeriod", Duration, IPVS, ZERO),
    nothing(
        "ipvs.scheduler",
        Text,
        &["", "rr"],
        "each connection picks an endpoint at random",
    ),
    nothing("ipvs.excludeCIDRs", Cidrs, NONE, NO_IPVS),
    nothing(
        "ipvs.strictARP",
        Bool,
        FALSE,
        "no address of a Service is put on a device, so that none is answered for",
    ),
    nothing("ipvs.tcpTimeout", Duration, ZERO, NO_IPVS),
    nothing("ipvs.tcpFinTimeout", Duration, ZERO, NO_IPVS),
    nothing("ipvs.udpTimeout", Duration, ZERO, NO_IPVS),
    nothing(
        "ipvs.masqueradeAll",
        Bool,
        FALSE,
        "kube-proxy has no such field, and in mode ipvs reads iptables.masqueradeAll",
    ),
    nothing("nftables.masqueradeBit", BIT, &["14"], MARKS),
    of_modes("nftables.masqueradeAll", Bool, NFTABLES, FALSE),
    of_modes("nftables.syncPeriod", Duration, NFTABLES, SYNC),
    of_modes("nftables.minSyncPeriod", Duration, NFTABLES, MIN_SYNC),
    nothing("winkernel.networkName", Text, NO_TEXT, WINDOWS),
    nothing("winkernel.sourceVip", Text, NO_TEXT, WINDOWS),
    nothing("winkernel.enableDSR", Bool, FALSE, WINDOWS),
    nothing("winkernel.rootHnsEndpointName", Text, NO_TEXT, WINDOWS),
    nothing("winkernel.forwardHealthCheckVip", Bool, FALSE, WINDOWS),
    nothing("windowsRunAsService", Bool, FALSE, WINDOWS),
    nothing(
        "detectLocalMode",
        OneOf(LOCAL_MODES),
        &["", "ClusterCIDR"],
        DEVICE,
    ),
    nothing("detectLocal.bridgeInterface", Text, NO_TEXT, DEVICE),
    nothing("detectLocal.interfaceNamePrefix", Text, NO_TEXT, DEVICE),
    nothing("clusterCIDR", Text, NO_TEXT, DEVICE),
    // For the fields of conntrack, 0 asks kube-proxy to leave the system's value.
    nothing("conntrack.maxPerCore", COUNT, &["0", "32768"], SYSTEM),
    nothing("conntrack.min", COUNT, &["0", "131072"], SYSTEM),
    nothing("conntrack.tcpBeLiberal", Bool, FALSE, SYSTEM),
    nothing(
        "configSyncPeriod",
        Duration,
        &["0s", "15m0s"],
        "what was watched is not gone through again for no cause",
    ),
    nothing(
        "portRange",
        PortRange,
        NO_TEXT,
        "kube-proxy makes no use of it either",
    ),
    nothing("udpIdleTimeout", Duration, &["0s", "250ms"], GONE),
    nothing("resourceContainer", Text, &["", "/kube-proxy"], GONE),
    nothing("conntrack.max", ANY_INT, &["0"], GONE),
];

/// All fields of `KubeProxyConfiguration`: these, and those that are settings.
pub(super) static KUBE_PROXY_FIELDS: LazyLock<Vec<Field>> =
    LazyLock::new(|| with_settings(FIELDS, KUBE_PROXY));

/// All fields of `ProxyAgentConfiguration`.
pub(super) static OWN_FIELDS: LazyLock<Vec<Field>> =
    LazyLock::new(|| with_settings(&[used("apiVersion", Text), used("kind", Text)], OWN));

fn with_settings(others: &[Field], document: (&'static str, &'static str)) -> Vec<Field> {
    let mut fields = others.to_vec();
    for setting in settings_of(document) {
        if others.iter().all(|other| other.path != setting.row.path) {
            fields.push(used(setting.row.path, (setting.access.kind)()));
        }
    }
    fields
}
