//! How many elements each map has.

use proxy_ebpf::layout::{
    COUNTERS, DEVICE_ADDRESSES, FILTER_WORDS, FRAGMENTS, LEFT_OUT_PODS, NAT_PORTS, STAGES,
};

use crate::config::MapSizes;

impl MapSizes {
    /// Service port ids: each port has a frontend, and one that is replaced has its id
    /// for a moment more.
    pub fn services(self) -> u32 {
        self.frontends.saturating_mul(2)
    }

    /// Every map that outlives the agent, with its number of elements.
    pub(super) fn by_map(self) -> [(&'static str, u32); 37] {
        [
            ("FRONTENDS_V4", self.frontends),
            ("FRONTENDS_V6", self.frontends),
            ("NODE_ADDRS_V4", self.node_addresses),
            ("NODE_ADDRS_V6", self.node_addresses),
            ("DEVICE_ADDRS_V4", DEVICE_ADDRESSES),
            ("DEVICE_ADDRS_V6", DEVICE_ADDRESSES),
            ("BACKENDS_V4", self.backends),
            ("BACKENDS_V6", self.backends),
            ("FLOWS_V4", self.flows),
            ("FLOWS_V6", self.flows),
            ("OPENING_V4", self.opening()),
            ("OPENING_V6", self.opening()),
            ("AFFINITY_V4", self.affinity()),
            ("AFFINITY_V6", self.affinity()),
            ("SOURCE_RANGES_V4", self.source_ranges()),
            ("SOURCE_RANGES_V6", self.source_ranges()),
            ("CLUSTER_IPS_V4", self.cluster_ips()),
            ("CLUSTER_IPS_V6", self.cluster_ips()),
            ("SETTINGS_V4", 1),
            ("SETTINGS_V6", 1),
            ("FILTER", FILTER_WORDS),
            ("SLOTS", self.slots.div_ceil(2)),
            ("NAT_PORTS", NAT_PORTS),
            ("SERVICE_TRAFFIC", self.services()),
            ("BACKEND_TRAFFIC_V4", self.backends),
            ("BACKEND_TRAFFIC_V6", self.backends),
            ("SOCKETS_V4", self.sockets()),
            ("SOCKETS_V6", self.sockets()),
            ("LEFT_OUT", LEFT_OUT_PODS),
            ("LEFT_OUT_LEVELS", 1),
            ("COUNTERS", COUNTERS),
            ("FRAGMENTS_V4", FRAGMENTS),
            ("FRAGMENTS_V6", FRAGMENTS),
            ("ANSWERS", 1),
            ("STAGES", STAGES),
            // What a program leaves to a stage's, which may be the next agent's already.
            ("TUNNEL_V4", 1),
            ("TUNNEL_V6", 1),
        ]
    }

    /// Records of flows that are opening, of one IP version.
    fn opening(self) -> u32 {
        self.flows.div_ceil(2)
    }

    /// Ranges of sources, of one IP version; each costs memory only when it is there.
    fn source_ranges(self) -> u32 {
        self.frontends
    }

    /// ClusterIPs of one IP version, also of Services for which there is no room.
    pub fn cluster_ips(self) -> u32 {
        self.frontends.saturating_mul(2)
    }

    /// Records of sockets, of one IP version: as many as of open flows.
    fn sockets(self) -> u32 {
        self.flows
    }

    /// Clients that are remembered for affinity, of one IP version: as many as there
    /// can be open flows.
    fn affinity(self) -> u32 {
        self.flows.div_ceil(2)
    }
}
