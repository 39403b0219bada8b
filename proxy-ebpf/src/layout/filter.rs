//! Which packets a Service may concern, in bits: a clear one lets a packet go without any
//! lookup.
//!
//! A bit stands for all that is hashed to it, so that one that is set means little; and the
//! agent clears it long after what it stood for has gone, since flows may go on.

use super::{Address, Port};

/// Bits for destinations at ingress. With 100,000 addresses one plain packet in ten is
/// looked up for nothing.
const DESTINATIONS: u32 = 1 << 20;
/// Bits for sources at egress, which follow.
const SOURCES: u32 = 1 << 21;

/// Elements of `FILTER`, of 64 bits each.
pub const FILTER_WORDS: u32 = (DESTINATIONS + SOURCES) / u64::BITS;

/// A bit of `FILTER`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilterBit(u32);

impl FilterBit {
    /// The bit for packets that come in to an address: a frontend's, a ClusterIP, the
    /// node's own.
    #[inline(always)]
    pub fn of_destination<A: Address>(address: &A) -> Self {
        let hash = mixed(address).wrapping_mul(FACTOR);
        Self(high_bits(hash, DESTINATIONS))
    }

    /// The bit for packets that go out from an address and port: an endpoint's.
    #[inline(always)]
    pub fn of_source<A: Address>(address: &A, port: Port) -> Self {
        let hash = (mixed(address) ^ u64::from(port.raw())).wrapping_mul(FACTOR);
        Self(DESTINATIONS + high_bits(hash, SOURCES))
    }

    /// The element that it is in.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0 / u64::BITS
    }

    /// Its place in that.
    #[inline(always)]
    pub const fn mask(self) -> u64 {
        1 << (self.0 % u64::BITS)
    }
}

/// 2^64 over the golden ratio: neighbours end up far from each other (D. Knuth, The Art of
/// Computer Programming, 6.4).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline(always)]
fn mixed<A: Address>(address: &A) -> u64 {
    let mut hash = 0;
    for word in address.words() {
        hash = (hash ^ u64::from(*word)).wrapping_mul(FACTOR);
        // What lies in the high bits would be lost by the next multiplication.
        hash ^= hash >> 32;
    }
    hash
}

/// The highest bits of a hash, which all others have a part in, as a number below `range`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "fewer than 32 bits are left"
)]
const fn high_bits(hash: u64, range: u32) -> u32 {
    (hash >> (u64::BITS - range.trailing_zeros())) as u32
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};
    use std::collections::HashSet;

    use super::*;
    use crate::layout::{V4, V6};

    fn v4(number: u32) -> V4 {
        Ipv4Addr::from_bits(0x0a60_0000 + number).into()
    }

    fn v6(number: u32) -> V6 {
        Ipv6Addr::from_bits((0xfd00_0010_0096 << 80) + u128::from(number)).into()
    }

    /// How many of so many neighbours share their bit with another one, in percent.
    fn shared(count: usize, bits: impl Iterator<Item = FilterBit>) -> usize {
        let different: HashSet<_> = bits.collect();
        (count - different.len()) * 100 / count
    }

    #[test]
    fn neighbours_have_bits_of_their_own() {
        let count = 100_000;
        let numbers = || 0..100_000;
        // 4.7 % would be chance.
        let of = FilterBit::of_destination;
        assert!(shared(count, numbers().map(|it| of(&v4(it)))) <= 5);
        assert!(
            shared(
                count,
                numbers().map(|it| FilterBit::of_destination(&v6(it)))
            ) <= 5
        );
        let port = Port::new(8080);
        assert!(
            shared(
                count,
                numbers().map(|it| FilterBit::of_source(&v4(it), port))
            ) <= 3
        );
        assert!(
            shared(
                count,
                numbers().map(|it| FilterBit::of_source(&v6(it), port))
            ) <= 3
        );
        let ports = (0..60_000).map(|it| FilterBit::of_source(&v4(1), Port::new(it)));
        assert!(shared(60_000, ports) <= 3);
    }

    #[test]
    fn each_bit_is_in_the_map() {
        for number in 0..10_000 {
            let destination = FilterBit::of_destination(&v4(number));
            let source = FilterBit::of_source(&v6(number), Port::new(80));
            assert!(destination.word() < DESTINATIONS / 64);
            assert!((DESTINATIONS / 64..FILTER_WORDS).contains(&source.word()));
            assert_eq!(destination.mask().count_ones(), 1);
        }
    }
}
