//! The filter: a Bloom filter of the addresses that a Service can concern. Packets whose bits
//! are clear pass without a lookup.
//!
//! Each address sets two bits of one word, so that a test reads one word (a blocked Bloom
//! filter: F. Putze et al., Cache-, Hash- and Space-Efficient Bloom Filters, 2007). False
//! positives cost a lookup. The agent clears bits late, since flows outlive their Service.

use super::{Address, Port};

/// Words for destinations at ingress. With 100,000 addresses one plain packet in a hundred is
/// looked up for nothing.
const DESTINATIONS: u32 = 1 << 15;
/// Words for sources at egress, which follow.
const SOURCES: u32 = 1 << 15;

/// Elements of `FILTER`, of 64 bits each.
pub const FILTER_WORDS: u32 = DESTINATIONS + SOURCES;

/// The bits of one address in `FILTER`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FilterBits {
    /// The element that they are in.
    pub word: u32,
    /// Their places in that.
    pub mask: u64,
}

impl FilterBits {
    /// The bits for packets that come in to an address: a frontend's, a ClusterIP, the
    /// node's own.
    #[inline(always)]
    pub fn of_destination<A: Address>(address: &A) -> Self {
        Self::of(mixed(address).wrapping_mul(FACTOR), 0)
    }

    /// The bits for packets that go out from an address and port: an endpoint's.
    #[inline(always)]
    pub fn of_source<A: Address>(address: &A, port: Port) -> Self {
        let hash = (mixed(address) ^ u64::from(port.raw())).wrapping_mul(FACTOR);
        Self::of(hash, DESTINATIONS)
    }

    /// By the highest bits of a hash, which all others have a part in: first the word, among
    /// as many as there are of each kind, then the places.
    #[inline(always)]
    const fn of(hash: u64, first_word: u32) -> Self {
        const WORD: u32 = u64::BITS - DESTINATIONS.trailing_zeros();
        const _: () = assert!(DESTINATIONS == SOURCES);
        let [one, other] = [hash >> (WORD - 6), hash >> (WORD - 12)];
        Self {
            word: first_word + (hash >> WORD) as u32,
            mask: 1 << (one % 64) | 1 << (other % 64),
        }
    }

    /// Whether both are set in their word.
    #[inline(always)]
    pub const fn are_in(self, word: u64) -> bool {
        word & self.mask == self.mask
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

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::layout::{V4, V6};

    fn v4(number: u32) -> V4 {
        Ipv4Addr::from_bits(0x0a60_0000 + number).into()
    }

    fn v6(number: u32) -> V6 {
        Ipv6Addr::from_bits((0xfd00_0010_0096 << 80) + u128::from(number)).into()
    }

    /// How many of 100,000 others find their bits set by 100,000, in a thousand.
    fn in_vain(bits: impl Fn(u32) -> FilterBits) -> usize {
        let mut words = vec![0_u64; FILTER_WORDS as usize];
        for number in 0..100_000 {
            let bits = bits(number);
            words[bits.word as usize] |= bits.mask;
        }
        let set = |number: &u32| {
            let bits = bits(*number);
            bits.are_in(words[bits.word as usize])
        };
        assert_eq!((0..100_000).filter(set).count(), 100_000);
        (100_000..200_000).filter(set).count() / 100
    }

    #[test]
    fn few_are_looked_up_in_vain() {
        let port = Port::new(8080);
        // Nine in a thousand would be chance.
        for in_vain in [
            in_vain(|it| FilterBits::of_destination(&v4(it))),
            in_vain(|it| FilterBits::of_destination(&v6(it))),
            in_vain(|it| FilterBits::of_source(&v4(it), port)),
            in_vain(|it| FilterBits::of_source(&v6(it), port)),
        ] {
            assert!(in_vain <= 12, "{in_vain}");
        }
    }

    #[test]
    fn neighbouring_ports_do_not_share_their_bits() {
        let of = |port| FilterBits::of_source(&v4(1), Port::new(port));
        let different: std::collections::HashSet<_> = (0..60_000).map(of).collect();
        assert!(different.len() > 59_000, "{}", different.len());
    }

    #[test]
    fn all_bits_are_in_the_map() {
        for number in 0..10_000 {
            let destination = FilterBits::of_destination(&v4(number));
            let source = FilterBits::of_source(&v6(number), Port::new(80));
            assert!(destination.word < DESTINATIONS);
            assert!((DESTINATIONS..FILTER_WORDS).contains(&source.word));
            assert!((1..=2).contains(&destination.mask.count_ones()));
        }
    }
}
