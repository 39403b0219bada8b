//! What programs know of edge devices.

/// Value of `EDGE_DEVICES`, which lie under the indices of devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct EdgeDevice {
    /// What XDP can do with it: bits of [`xdp_device_flags`].
    pub xdp: XdpDeviceFlags,
    /// Addresses that frames for this host have: its own, and its bridge's; or zeros.
    pub addresses: [LinkAddress; 2],
}

impl EdgeDevice {
    /// Whether a frame to this address is for this host.
    #[inline(always)]
    pub fn has_address(&self, address: LinkAddress) -> bool {
        let [own, bridge] = self.addresses;
        own == address || bridge == address
    }
}

/// An Ethernet address, as it is in a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct LinkAddress(pub [u16; 3]);

impl From<[u8; 6]> for LinkAddress {
    fn from(bytes: [u8; 6]) -> Self {
        let mut words = [0; 3];
        for (word, pair) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u16::from_ne_bytes(*pair);
        }
        Self(words)
    }
}

/// What XDP can do with a device: bits of [`xdp_device_flags`].
pub type XdpDeviceFlags = u32;

/// Elements of `EDGE_DEVICES`: a node's uplinks, and the members of those that are bonds.
pub const EDGE_DEVICES: u32 = 1024;

/// What XDP can do with a device.
pub mod xdp_device_flags {
    /// Send packets out of it that came in by it (`XDP_TX`).
    pub const TX: u32 = 1;
    /// Send packets out of it, whatever device they came in by (`XDP_REDIRECT`).
    pub const REDIRECT: u32 = 1 << 1;
}
