//! What may change while the programs run.

use super::{Address, Timeouts};

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Range<A> {
    /// Its first address.
    pub first: A,
    /// The bits of an address that count; none in a range that is not there.
    pub mask: A,
}

impl<A: Address> Range<A> {
    /// Whether there is such a range.
    #[inline(always)]
    pub fn is_set(&self) -> bool {
        self.mask != A::default()
    }

    /// Whether the range is there and `address` is in it.
    #[inline(always)]
    pub fn contains(&self, address: &A) -> bool {
        let mut difference = 0;
        let mut bits = 0;
        let words = self.first.words().iter().zip(self.mask.words());
        for ((first, mask), word) in words.zip(address.words()) {
            difference |= (first ^ word) & mask;
            bits |= mask;
        }
        bits != 0 && difference == 0
    }
}

/// How many ranges of ClusterIPs of one IP version are looked after.
pub const SERVICE_CIDRS: usize = 2;

/// The one element of `SETTINGS_*`: what may change while the programs run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Settings<A> {
    /// The node's address, for flows that need SNAT; zero when there is none.
    pub node_address: A,
    /// How many of `NAT_PORTS` are in use, from the first.
    pub nat_ports: u32,
    /// Bits of [`settings_flags`].
    pub flags: u32,
    /// Where ClusterIPs are: an address of these that no Service has is unassigned.
    pub service_cidrs: [Range<A>; SERVICE_CIDRS],
    /// How long flows are remembered.
    pub timeouts: Timeouts,
}

/// Bits of [`Settings::flags`].
pub mod settings_flags {
    /// Outside clients are translated also when the backend is on this node.
    pub const MASQUERADE_ALL: u32 = 1;
    /// TCP connections to an endpoint that is gone are reset, by
    /// [`RESET_STEP`](crate::layout::RESET_STEP).
    pub const RESET_GONE: u32 = 1 << 1;
    /// What this host sends to ClusterIPs leaves by an uplink: there the datagrams of its connected
    /// sockets are translated, so that they go on when an endpoint is gone.
    pub const HOST_DATAGRAMS: u32 = 1 << 2;
    /// This host routes by source addresses: replies leave by the route of the frontend's address,
    /// and not of the endpoint's.
    pub const ROUTES_BY_SOURCE: u32 = 1 << 3;
    /// A SYN that is sent again because the endpoint has not answered goes to another one.
    pub const RETRY_UNANSWERED: u32 = 1 << 4;
}
