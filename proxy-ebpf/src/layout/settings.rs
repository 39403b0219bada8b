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

/// What may change while the programs run; the one element of `SETTINGS_*`, as programs of older
/// agents read it.
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

/// The one element of `CURRENT_SETTINGS_*`. The kernel copies an element while programs read it: so a
/// change is written to the value that nobody reads, and after that one number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct CurrentSettings<A> {
    /// Which of the values the programs read.
    pub index: u32,
    /// Settings, and those before.
    pub values: [Settings<A>; 2],
}

impl<A: Address> CurrentSettings<A> {
    /// The settings at an index, whatever it is.
    #[inline(always)]
    pub fn at(&self, index: u32) -> &Settings<A> {
        &self.values[index as usize & 1]
    }

    /// The settings that the programs read.
    pub fn current(&self) -> &Settings<A> {
        self.at(self.index)
    }

    /// Whether a program may still read the value that the next change is written to: it held before.
    pub fn has_predecessor(&self) -> bool {
        *self.at(self.index ^ 1) != Settings::default()
    }

    /// What the element becomes, in two steps, so that the programs read these settings.
    #[must_use]
    pub fn changed_to(&self, settings: Settings<A>) -> [Self; 2] {
        let mut written = *self;
        let other = (self.index ^ 1) & 1;
        written.values[other as usize] = settings;
        let switched = Self {
            index: other,
            ..written
        };
        [written, switched]
    }
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
    /// A SYN that is sent again because the endpoint has not answered goes to another one, where the
    /// Service does not say otherwise.
    pub const RETRY_UNANSWERED: u32 = 1 << 4;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::V6;

    type Element = CurrentSettings<V6>;

    const LENGTH: usize = size_of::<Element>();

    fn bytes(element: &Element) -> [u8; LENGTH] {
        // SAFETY: integers without padding.
        #[expect(unsafe_code, reason = "what the kernel copies")]
        unsafe {
            core::mem::transmute(*element)
        }
    }

    fn element(bytes: [u8; LENGTH]) -> Element {
        // SAFETY: as above.
        #[expect(unsafe_code, reason = "what the kernel copies")]
        unsafe {
            core::mem::transmute(bytes)
        }
    }

    /// Settings of which no byte is that of others.
    fn settings(number: u32) -> Settings<V6> {
        let word = number * 0x0101_0101;
        let address = V6([word; 4]);
        let range = Range {
            first: address,
            mask: address,
        };
        Settings {
            node_address: address,
            nat_ports: word,
            flags: word,
            service_cidrs: [range; SERVICE_CIDRS],
            timeouts: Timeouts {
                tcp_established: word,
                tcp_close_wait: word,
                udp: word,
                udp_stream: word,
            },
        }
    }

    #[test]
    fn a_reader_sees_the_settings_before_a_change_or_after_it() {
        let mut there = Element::default();
        for number in 1..6 {
            let (before, after) = (*there.current(), settings(number));
            for step in there.changed_to(after) {
                let (old, new) = (bytes(&there), bytes(&step));
                // From either end, as a copy may go.
                for cut in 0..=LENGTH {
                    for [first, rest] in [[&new, &old], [&old, &new]] {
                        let mut half = *rest;
                        half[..cut].copy_from_slice(&first[..cut]);
                        let seen = *element(half).current();
                        assert!(seen == before || seen == after, "{cut}: {seen:?}");
                    }
                }
                there = step;
            }
            assert_eq!(*there.current(), after);
            assert_eq!(there.has_predecessor(), number > 1);
        }
    }
}
