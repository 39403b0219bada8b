//! Where a key's records are.

use super::Tag;
use crate::layout::{Address, FlowSeed, KeyParts};

/// A place of a key's record: the first one of two is in the key's home bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    hash: u64,
}

/// 2^64 over the golden ratio (D. Knuth, The Art of Computer Programming, 6.4).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

impl Place {
    /// The first place of a key, in tables with this seed: without it nobody can choose tuples that
    /// meet in one bucket.
    #[inline(always)]
    pub fn of<A: Address>(key: &KeyParts<'_, A>, seed: FlowSeed) -> Self {
        let mut hash = u64::from(seed) << 32 | u64::from(key.protocol) << 8 | u64::from(key.edge);
        let words = key.source.words().iter();
        for (source, destination) in words.zip(key.destination.words()) {
            hash = mix(hash ^ (u64::from(*source) << 32 | u64::from(*destination)));
        }
        let [source, destination] = key.ports;
        let ports = u64::from(source.raw()) << 16 | u64::from(destination.raw());
        Self {
            hash: mix(mix(hash ^ ports)),
        }
    }

    /// The index of the bucket, of so many.
    #[inline(always)]
    pub const fn bucket(self, buckets: u32) -> u32 {
        (((self.hash >> 32) * buckets as u64) >> 32) as u32
    }

    /// The key's second place, of its first one: the other half of the hash gives the bucket.
    #[inline(always)]
    #[must_use]
    pub const fn second(self) -> Self {
        Self {
            hash: self.hash << 32 | self.hash & 0xffff_ffff,
        }
    }

    /// The tag, the same in both buckets.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "one byte of it")]
    pub const fn tag(self) -> Tag {
        Tag::of((self.hash >> 8) as u8)
    }
}

#[inline(always)]
const fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_mul(FACTOR);
    // What lies in the high bits would be lost by the next multiplication.
    hash ^ hash >> 32
}
