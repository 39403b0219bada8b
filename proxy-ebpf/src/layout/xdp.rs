//! What XDP can do with devices.

/// Value of `XDP_DEVICES`, which lie under the indices of devices: bits of [`xdp_device_flags`].
pub type XdpDeviceFlags = u32;

/// Elements of `XDP_DEVICES`.
pub const XDP_DEVICES: u32 = 1024;

/// What XDP can do with a device.
pub mod xdp_device_flags {
    /// Send packets out of it that came in by it (`XDP_TX`).
    pub const TX: u32 = 1;
    /// Send packets out of it, whatever device they came in by (`XDP_REDIRECT`).
    pub const REDIRECT: u32 = 1 << 1;
}
