//! How many elements the maps have.

/// How many elements the maps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapSizes {
    /// Frontends of one IP version.
    pub frontends: u32,
    /// Backends of one IP version.
    pub backends: u32,
    /// Slots.
    pub slots: u32,
    /// Records of open flows of one IP version; a flow has two. Flows that are opening
    /// have half as many of their own.
    pub flows: u32,
    /// Addresses of this node, of one IP version.
    pub node_addresses: u32,
}
