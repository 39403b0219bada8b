//! Packets in fragments.

/// Key of `FRAGMENTS_*`: a packet of which fragments are seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Its identification, as it is in the packet.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// An [`Edge`](super::Edge).
    pub edge: u8,
    /// Zero.
    pub pad: u16,
}

/// Value of `FRAGMENTS_*`: what became of the first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Fragment<A> {
    /// The source address that it got.
    pub source: A,
    /// The destination address that it got.
    pub destination: A,
    /// Bits of [`flow_flags`](super::flow_flags).
    pub flags: u32,
    /// When that was, in [`ticks`](super::ticks).
    pub last_seen: u32,
}

/// Elements of `FRAGMENTS_*`: packets in fragments that are on their way at one time.
pub const FRAGMENTS: u32 = 8192;
