//! The settings that kube-proxy has none for.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::{
    AttachWay, DEFAULT_BPFFS, DEFAULT_MAPS, DEFAULT_NAT_PORTS, MapSizes, NO_BPFFS, PortRange,
    SocketPathMode, XdpChoice,
};
use crate::model::object::{Algorithm, Forwarding};

use super::address::range;
use super::check::Values;
use super::duration::GoDuration;
use super::error::Mistake;
use super::settings::mistake;

/// Reading all maps takes some milliseconds in a large cluster.
const SHORTEST_AUDIT_PERIOD: Duration = Duration::from_secs(1);

/// The data path looks for this at most about once a second.
const SHORTEST_RESET_GRACE: Duration = Duration::from_secs(1);

/// The settings of `ProxyAgentConfiguration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSettings {
    /// How much the maps hold.
    pub maps: MapSizes,
    /// Source ports of flows that leave with this node's address.
    pub nat_ports: PortRange,
    /// How programs are attached to devices. By default by tcx where the kernel has
    /// it, for other users of clsact cannot displace that.
    pub attach: AttachWay,
    /// The BPF file system in which maps and links are pinned, so that they outlive the
    /// agent; none where nothing shall outlive it.
    pub bpffs: Option<PathBuf>,
    /// How often the maps are read back and compared with what they should hold. By
    /// default seldom: nobody else writes to them.
    pub audit_period: Duration,
    /// On which uplinks XDP is used. By default on hardware, where it is faster than TC
    /// and sees the same packets.
    pub xdp: XdpChoice,
    /// How connections from outside choose their endpoint, where a Service does not say.
    /// By default at random, which is even also for few clients, and takes little memory.
    pub algorithm: Algorithm,
    /// How connections from outside reach endpoints of other nodes, where a Service does
    /// not say. By default with this node's address, which works in every network.
    pub forwarding: Forwarding,
    /// Whose sockets are served. By default everybody's: their packets cost nothing.
    pub socket_path: SocketPathMode,
    /// The cgroup below which they are served. By default the root of all, wherever it
    /// is mounted.
    pub cgroup: Option<PathBuf>,
    /// Whether Pods may have their sockets left alone, by a label. By default not, since
    /// to watch Pods is a right that is needed for nothing else.
    pub pod_opt_out: bool,
    /// How long after the end of an endpoint TCP connections to it are reset, so that their
    /// clients connect anew. By default never: an endpoint that is gone may have much to
    /// say yet, and connections end by themselves.
    pub reset_gone_endpoints: Option<Duration>,
    /// Where `spec.externalIPs` may be. By default nowhere, since whoever may write a
    /// Service could take any traffic with them (CVE-2020-8554).
    pub external_ips: Vec<IpNet>,
}

impl Default for OwnSettings {
    fn default() -> Self {
        Self {
            maps: DEFAULT_MAPS,
            nat_ports: DEFAULT_NAT_PORTS,
            attach: AttachWay::Auto,
            bpffs: Some(PathBuf::from(DEFAULT_BPFFS)),
            audit_period: Duration::from_mins(5),
            xdp: XdpChoice::Auto,
            algorithm: Algorithm::Random,
            forwarding: Forwarding::Snat,
            socket_path: SocketPathMode::On,
            cgroup: None,
            pod_opt_out: false,
            reset_gone_endpoints: None,
            external_ips: Vec::new(),
        }
    }
}

impl OwnSettings {
    /// The settings of a `ProxyAgentConfiguration`.
    pub(super) fn of(values: &Values) -> Result<Self, Mistake> {
        let mut own = Self::default();
        for (path, size) in [
            ("mapSizes.frontends", &mut own.maps.frontends),
            ("mapSizes.backends", &mut own.maps.backends),
            ("mapSizes.slots", &mut own.maps.slots),
            ("mapSizes.flows", &mut own.maps.flows),
        ] {
            if let Some(value) = values.integer(path) {
                *size = u32::try_from(value).unwrap_or(u32::MAX);
            }
        }
        if let Some(text) = values.text("natPorts") {
            own.nat_ports = text
                .parse()
                .map_err(|why: String| mistake(values, "natPorts", why))?;
        }
        if let Some(period) = values.duration("auditPeriod") {
            own.audit_period = period.to_std();
            if own.audit_period < SHORTEST_AUDIT_PERIOD {
                let reason = "the maps cannot be read back more often than once a second";
                return Err(mistake(values, "auditPeriod", reason));
            }
        }
        own.attach = match values.text("attach") {
            Some("tcx") => AttachWay::Tcx,
            Some("clsact") => AttachWay::Clsact,
            _ => AttachWay::Auto,
        };
        own.bpffs = match values.text("bpffs") {
            None | Some("") => own.bpffs,
            Some(NO_BPFFS) => None,
            Some(path) => Some(PathBuf::from(path)),
        };
        own.xdp = match values.text("xdp") {
            Some("always") => XdpChoice::Always,
            Some("never") => XdpChoice::Never,
            _ => XdpChoice::Auto,
        };
        own.algorithm = values
            .text("lbAlgorithm")
            .and_then(Algorithm::of_name)
            .unwrap_or_default();
        own.forwarding = values
            .text("forwarding")
            .and_then(Forwarding::of_name)
            .unwrap_or_default();
        own.socket_path = match values.text("socketPath") {
            Some("host-only") => SocketPathMode::HostOnly,
            Some("off") => SocketPathMode::Off,
            _ => SocketPathMode::On,
        };
        own.pod_opt_out = values.flag("podOptOut");
        own.reset_gone_endpoints = reset_grace(values)?;
        own.cgroup = values.text("cgroup").map(PathBuf::from);
        for (number, (place, text)) in values.texts("externalIPs").iter().enumerate() {
            let net = range(text).ok_or_else(|| {
                let reason = format!("`{text}` is no address range such as `192.0.2.0/24`");
                Mistake::new(*place, &format!("externalIPs[{number}]"), reason)
            })?;
            own.external_ips.push(net);
        }
        Ok(own)
    }
}

/// The time of `resetGoneEndpoints`; none for 0.
fn reset_grace(values: &Values) -> Result<Option<Duration>, Mistake> {
    let path = "resetGoneEndpoints";
    match values.duration(path).map(GoDuration::to_std) {
        Some(grace) if grace < SHORTEST_RESET_GRACE => {
            let reason = "an endpoint cannot be gone for less than a second; 0 is never";
            Err(mistake(values, path, reason))
        }
        grace => Ok(grace),
    }
}
