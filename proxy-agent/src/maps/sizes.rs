//! How many elements each map has.

use proxy_ebpf::layout::{MapSize, SizeSetting, maps};

use crate::config::MapSizes;

impl MapSizes {
    /// How many elements a map of this size has.
    pub fn of(self, size: MapSize) -> u32 {
        match size {
            MapSize::Fixed(elements) | MapSize::Bytes(elements) | MapSize::OneEach(elements) => {
                elements
            }
            MapSize::Of(setting) => self.setting(setting),
            MapSize::Twice(setting) => self.setting(setting).saturating_mul(2),
            MapSize::Half(setting) => self.setting(setting).div_ceil(2),
            MapSize::Buckets(setting) => MapSize::buckets(self.setting(setting)),
        }
    }

    fn setting(self, setting: SizeSetting) -> u32 {
        match setting {
            SizeSetting::Frontends => self.frontends,
            SizeSetting::Backends => self.backends,
            SizeSetting::Slots => self.slots,
            SizeSetting::Flows => self.flows,
            SizeSetting::NodeAddresses => self.node_addresses,
        }
    }

    /// ClusterIPs of one IP version.
    pub fn cluster_ips(self) -> u32 {
        self.of(maps::CLUSTER_IPS_V4.size)
    }
}
