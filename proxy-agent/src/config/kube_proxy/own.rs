//! The settings that kube-proxy has none for, with their defaults and the reasons for them.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use proxy_ebpf::layout::{Bucket, V4, V6, WAYS};

use super::OWN;
use super::form::{
    Elements, ElementsOrNone, OneOf, Path, PathOrNone, Period, Ports, Ranges, Switch,
};
use super::row::{hot, restart, settings_table};
use crate::config::{AttachMode, DEFAULT_BPFFS, PortRange, SocketPathMode, XdpChoice};
use crate::model::object::{Algorithm, Forwarding, Unanswered};

/// Reading all maps takes some milliseconds in a large cluster.
const AUDIT_PERIOD: Period = Period(
    Duration::from_secs(1),
    "the maps cannot be read back more often than once a second",
);

/// The data path looks for this at most about once a second.
const RESET_GRACE: Period = Period(
    Duration::from_secs(1),
    "an endpoint cannot be gone for less than a second; 0 is never",
);

const MAP_SIZE: &str = "the kernel's maps have one size for life";
const AT_START: &str = "it decides what is loaded and attached at the start";
const AT_LISTEN: &str = "it is made at the start";
const ALL_CONNECTIONS: &str = "the connections of all Services would move at once";

settings_table! {
    /// The settings of `ProxyAgentConfiguration`.
    pub struct ProxyAgentSettings, |settings| settings.own, of OWN {
        /// Source ports of flows that leave with this node's address; NodePorts, the host's
        /// ephemeral ports (`net.ipv4.ip_local_port_range`) and those that its sockets are
        /// bound to are left out of them.
        ///
        /// All ports that need no privilege.
        nat_ports: PortRange = PortRange { first: 1024, last: 65_535 }, Ports,
            restart("natPorts", "flows have ports of the old range")
                .option("nat-ports", "FIRST-LAST");

        /// How programs are attached to devices.
        ///
        /// By tcx where the kernel has it, for other users of clsact cannot displace that.
        attach: AttachMode = AttachMode::Auto, OneOf,
            restart("attach", AT_START).option("attach", "WAY");

        /// The BPF file system in which maps and programs are pinned, so that they go on
        /// without the agent, and its successor goes on from them; with `none` a stop takes
        /// them away.
        ///
        /// Where systemd mounts one, and the command `mount` does.
        bpffs: Option<PathBuf> = Some(PathBuf::from(DEFAULT_BPFFS)), PathOrNone,
            restart("bpffs", AT_START).option("bpffs", "DIR|none");

        /// How often the maps are read back and compared with what they should hold.
        ///
        /// Seldom: nobody else writes to them.
        audit_period: Duration = Duration::from_mins(5), AUDIT_PERIOD,
            restart("auditPeriod", "it is counted from the start");

        /// On which uplinks XDP is used, where their drivers have it.
        ///
        /// On hardware, where it is faster than TC and sees the same packets.
        xdp: XdpChoice = XdpChoice::Auto, OneOf,
            restart("xdp", AT_START).option("xdp", "WHERE");

        /// How connections from outside choose their endpoint, where a Service has no
        /// annotation `proxy-agent/lb-algorithm`.
        ///
        /// At random, which is even also for few clients, and takes little memory.
        algorithm: Algorithm = Algorithm::Random, OneOf,
            restart("lbAlgorithm", ALL_CONNECTIONS).option("lb-algorithm", "NAME");

        /// How connections from outside reach endpoints of other nodes, where a Service has
        /// no annotation `proxy-agent/forwarding`.
        ///
        /// With this node's address, which works in every network.
        forwarding: Forwarding = Forwarding::Snat, OneOf,
            restart("forwarding", ALL_CONNECTIONS).option("forwarding", "HOW");

        /// Whose sockets are served before there are packets.
        ///
        /// Everybody's: their packets cost nothing.
        socket_path: SocketPathMode = SocketPathMode::On, OneOf,
            restart("socketPath", AT_START).option("socket-path", "WHOSE");

        /// The cgroup below which sockets are served.
        ///
        /// The root of all, wherever it is mounted.
        cgroup: Option<PathBuf> = None, Path(None),
            restart("cgroup", AT_START).option("cgroup", "DIR");

        /// Leave the sockets of Pods with the label `proxy-agent/socket-path: "off"` alone.
        /// Needs the right to list and watch Pods.
        ///
        /// Not so, since that right is needed for nothing else.
        pod_opt_out: bool = false, Switch,
            restart("podOptOut", "what is watched is decided at the start")
                .option("pod-opt-out", "BOOL");

        /// How long after the end of an endpoint TCP connections to it are reset, so that
        /// their clients connect anew; 0 is never.
        ///
        /// Never: an endpoint that is gone may have much to say yet, and connections end by
        /// themselves.
        reset_gone_endpoints: Option<Duration> = None, RESET_GRACE,
            restart("resetGoneEndpoints", "which endpoints are gone is known from the start on");

        /// What becomes of new TCP connections whose endpoint does not answer, because its node has
        /// died, for example, where a Service has no annotation `proxy-agent/unanswered`.
        ///
        /// The API server learns of that after 40 s and more.
        unanswered: Unanswered = Unanswered::Avoid, OneOf,
            hot("unanswered").option("unanswered", "HOW");

        /// The Unix socket at which the agent answers `proxy-agent probe`.
        ///
        /// None; the manifests set one, since probes over a port could be answered by another
        /// proxy.
        probe_socket: Option<PathBuf> = None, Path(None),
            restart("probeSocket", AT_LISTEN).option("probe-socket", "FILE");

        /// Where `spec.externalIPs` may be.
        ///
        /// Nowhere, since whoever may write a Service could take any traffic with them
        /// (CVE-2020-8554).
        external_ips: Vec<IpNet> = Vec::new(), Ranges, hot("externalIPs");
    }

    /// How much the maps hold.
    maps: MapSizes = MapSizes::default();
}

// Sizes for a cluster of 10,000 Services with ten endpoints each, with room for as many
// again: the kernel allocates hash entries as they are needed, so that unused room costs
// little more than a bucket of the table each.
settings_table! {
    /// How many elements the maps have.
    #[derive(Copy)]
    pub struct MapSizes, |settings| settings.own.maps, of OWN {
        /// Frontends: ClusterIPs, NodePorts and load balancer addresses, times ports. For
        /// each IP version.
        ///
        /// ClusterIP, NodePort and one VIP for each of some 20,000 ports.
        frontends: u32 = 65_536, Elements,
            restart("mapSizes.frontends", MAP_SIZE).named("mapSizes").option("map-frontends", "N");

        /// Backends: endpoints, times Service ports. For each IP version.
        ///
        /// 10,000 Services with ten endpoints each, and as many again.
        backends: u32 = 262_144, Elements,
            restart("mapSizes.backends", MAP_SIZE).named("mapSizes").option("map-backends", "N");

        /// Slots: places in endpoint sets; at least twice the backends. Shared by both IP
        /// versions.
        ///
        /// Each endpoint takes a slot in the cluster set and perhaps one in the local set,
        /// and old and new set live side by side for a moment.
        slots: u32 = 1_048_576, Elements,
            restart("mapSizes.slots", MAP_SIZE).named("mapSizes").option("map-slots", "N");

        /// Flow records, two for each connection, for each IP version; 0: as many as the
        /// machine's memory allows. The table has room for twice as many, so that few of its
        /// buckets are ever full: 2 x 73 bytes for each record of IPv4, 2 x 121 of IPv6, which
        /// the kernel allocates at the start. In a full bucket ended flows are replaced first,
        /// then unestablished ones.
        ///
        /// Both tables take a 256th of the memory: 131,072 records (48 MiB) at the least, and
        /// 690,000 on a machine with 64 GiB.
        flows: u32 = 0, ElementsOrNone,
            restart("mapSizes.flows", MAP_SIZE).named("mapSizes").option("map-flows", "N");
    }

    /// Addresses of this node, of one IP version.
    node_addresses: u32 = 1024;
}

impl MapSizes {
    /// These, with flow records for a machine with so many bytes of memory where nothing else
    /// is said.
    #[must_use]
    pub fn for_memory(self, memory: u64) -> Self {
        /// Of both IP versions: twice a bucket's size for each of its ways.
        const RECORD: u64 =
            2 * (size_of::<Bucket<V4>>() + size_of::<Bucket<V6>>()) as u64 / WAYS as u64;
        /// What part of the memory the tables take.
        const PART: u64 = 256;
        const LEAST: u64 = 1 << 17;
        const MOST: u64 = 1 << 23;
        let records = (memory / PART / RECORD).clamp(LEAST, MOST);
        let flows = match self.flows {
            0 => u32::try_from(records).unwrap_or(u32::MAX),
            flows => flows,
        };
        Self { flows, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_records_follow_the_memory_where_nothing_is_said() {
        const GIB: u64 = 1 << 30;
        let flows = |gib| MapSizes::default().for_memory(gib * GIB).flows;
        assert_eq!(flows(1), 131_072);
        assert_eq!(flows(64), 691_843);
        assert_eq!(flows(4096), 1 << 23);
        let said = MapSizes {
            flows: 1000,
            ..MapSizes::default()
        };
        assert_eq!(said.for_memory(64 * GIB), said);
    }
}
