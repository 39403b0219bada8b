//! How many elements each map has.

use proxy_ebpf::layout::{Setting, Size, maps};

use crate::config::MapSizes;

impl MapSizes {
    /// How many elements a map of this size has.
    pub fn of(self, size: Size) -> u32 {
        match size {
            Size::Fixed(elements) | Size::OneEach(elements) => elements,
            Size::Of(setting) => self.setting(setting),
            Size::Twice(setting) => self.setting(setting).saturating_mul(2),
            Size::Half(setting) => self.setting(setting).div_ceil(2),
        }
    }

    fn setting(self, setting: Setting) -> u32 {
        match setting {
            Setting::Frontends => self.frontends,
            Setting::Backends => self.backends,
            Setting::Slots => self.slots,
            Setting::Flows => self.flows,
            Setting::NodeAddresses => self.node_addresses,
        }
    }

    /// ClusterIPs of one IP version.
    pub fn cluster_ips(self) -> u32 {
        self.of(maps::CLUSTER_IPS_V4.size)
    }
}
