//! The tags of a bucket's records: one word, by which they are found and claimed.

use super::atomic::SharedU64;
use crate::layout::WAYS;
use crate::verifier::hide_bounds;

/// No record.
const EMPTY: u8 = 0;
/// A record that is being written.
const BUSY: u8 = 1;
/// The first of the tags that keys have.
const FIRST: u32 = 2;

/// A one in the byte of each way.
const ONES: u64 = (1 << (8 * WAYS)) - 1;
const ONE_EACH: u64 = ONES / 0xff;
/// Where the count of claims is, which tells a word from one that looks the same.
#[expect(clippy::cast_possible_truncation, reason = "56")]
const COUNT: u32 = 8 * WAYS as u32;

const _: () = assert!(COUNT == 56, "the count is one byte");

/// The highest bit: a record whose home this bucket is may be in its second one.
const SPILLED: u64 = 1 << 63;
/// What changes with every claim.
const COUNTS: u64 = !ONES & !SPILLED;

/// A byte for each way, lowest first: its record's tag, or that there is none. In the highest
/// byte, how many claims there were, begun anew after 128, and whether the bucket has spilled.
///
/// Every change is made by comparing and exchanging the word, so that claims of one bucket
/// follow each other.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Tags(SharedU64);

/// The tags at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagWord(u64);

/// The tag of a key: a part of its hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(u8);

impl Tag {
    /// The tag for a hash of 8 bits.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "255 at most")]
    pub const fn of(hash: u8) -> Self {
        Self((FIRST + ((hash as u32 * (256 - FIRST)) >> 8)) as u8)
    }
}

impl Tags {
    /// Reads them.
    #[inline(always)]
    pub fn load(&self) -> TagWord {
        TagWord(self.0.load())
    }

    /// Begins a claim of a way, which is busy until [`Self::publish`]; `None` where another
    /// CPU has changed the bucket meanwhile.
    #[inline(always)]
    pub(super) fn reserve(&self, seen: TagWord, way: usize) -> Option<TagWord> {
        let busy = seen.with(way, BUSY).counted();
        self.0.compare_exchange(seen.0, busy.0).then_some(busy)
    }

    /// Gives up a claim, whose way is empty then.
    #[inline(always)]
    pub(super) fn withdraw(&self, busy: TagWord, way: usize) {
        self.0.compare_exchange(busy.0, busy.with(way, EMPTY).0);
    }

    /// Removes the record of a way. False where another CPU has changed the bucket meanwhile.
    #[inline(always)]
    pub(super) fn remove(&self, seen: TagWord, way: usize) -> bool {
        let without = seen.with(way, EMPTY).counted();
        self.0.compare_exchange(seen.0, without.0)
    }

    /// Notes that a record of this home is in its second bucket. False where another CPU has changed
    /// the bucket meanwhile.
    #[inline(always)]
    pub(super) fn spill(&self, seen: TagWord) -> bool {
        let spilled = seen.counted().0 | SPILLED;
        self.0.compare_exchange(seen.0, spilled)
    }

    /// Ends the claim: the record is there for all who see this. Nobody else changes the word
    /// while a way is busy.
    #[inline(always)]
    pub(super) fn publish(&self, busy: TagWord, way: usize, tag: Tag) {
        self.0.compare_exchange(busy.0, busy.with(way, tag.0).0);
    }

    /// Frees the ways that are busy in this word, unless the word has changed.
    pub(super) fn free_busy(&self, seen: TagWord) {
        let mut word = seen;
        for way in 0..WAYS {
            if word.0 >> (8 * way) & 0xff == u64::from(BUSY) {
                word = word.with(way, EMPTY);
            }
        }
        self.0.compare_exchange(seen.0, word.0);
    }
}

impl TagWord {
    /// The same, of which the verifier knows nothing; it must not know `any` either.
    #[inline(always)]
    pub(super) fn hidden(self, any: u32) -> Self {
        let zero = u64::from(hide_bounds(0, any));
        Self(self.0 ^ (zero << 32 | zero))
    }

    /// All bits, if a record of this home may be in its second bucket; else none.
    #[inline(always)]
    pub(super) const fn spilled_mask(self) -> u64 {
        (self.0 >> 63).wrapping_neg()
    }

    #[inline(always)]
    const fn counted(self) -> Self {
        let count = (self.0 & COUNTS).wrapping_add(1 << COUNT) & COUNTS;
        Self(self.0 & !COUNTS | count)
    }

    /// The ways with this tag. Above one of them there may be others that have not.
    #[inline(always)]
    pub(super) const fn matches(self, tag: Tag) -> Ways {
        self.equal_to(tag.0)
    }

    /// The ways without a record.
    #[inline(always)]
    pub(super) const fn empty(self) -> Ways {
        self.equal_to(EMPTY)
    }

    /// A number for a way, less than [`WAYS`]: that of the one whose turn it is by the number of
    /// claims is the highest.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "less than `WAYS`")]
    pub(super) const fn turn_of(self, way: usize) -> u32 {
        let claims = ((self.0 & COUNTS) >> COUNT) as u32;
        (way as u32 + claims * (WAYS as u32 - 1)) % WAYS as u32
    }

    /// Whether a record is being written.
    #[inline(always)]
    pub const fn is_busy(self) -> bool {
        self.equal_to(BUSY).0 != 0
    }

    /// Whether the way has a record that is not being written.
    pub(super) const fn is_used(self, way: usize) -> bool {
        (self.0 >> (8 * way) & 0xff) as u32 >= FIRST
    }

    /// Whether a way had the same tag in another word.
    #[inline(always)]
    pub(super) const fn has_same(self, other: Self, way: usize) -> bool {
        (self.0 ^ other.0) & (0xff << (8 * way)) == 0
    }

    /// Without a branch for each way: finds zero bytes as in H. Warren, Hacker's Delight, 6-1.
    #[inline(always)]
    const fn equal_to(self, byte: u8) -> Ways {
        let difference = self.0 ^ (ONE_EACH * byte as u64);
        Ways(difference.wrapping_sub(ONE_EACH) & !difference & ONE_EACH << 7)
    }

    #[inline(always)]
    const fn with(self, way: usize, byte: u8) -> Self {
        let place = 8 * way;
        Self(self.0 & !(0xff << place) | (byte as u64) << place)
    }
}

/// Some of a bucket's ways: the highest bit of each one's byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ways(u64);

impl Ways {
    /// The lowest one.
    #[inline(always)]
    pub(super) const fn first(self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let lowest = (self.0 & self.0.wrapping_neg()) >> 7;
        // The BPF target cannot count zeros: multiplied by a power of 256, the byte of that
        // power's exponent comes up to the top.
        Some((lowest.wrapping_mul(0x0001_0203_0405_0607) >> 56) as usize)
    }

    /// Whether there are more than so many.
    #[inline(always)]
    pub(super) const fn count_exceeds(self, most: usize) -> bool {
        // One in each byte, summed up into the highest.
        (self.0 >> 7).wrapping_mul(0x0101_0101_0101_0101) >> 56 > most as u64
    }

    /// Without the lowest one.
    #[inline(always)]
    pub(super) const fn rest(self) -> Self {
        Self(self.0 & self.0.wrapping_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: [u8; 8]) -> TagWord {
        TagWord(u64::from_le_bytes(bytes))
    }

    fn all(mut ways: Ways) -> Vec<usize> {
        let mut all = Vec::new();
        while let Some(way) = ways.first() {
            all.push(way);
            ways = ways.rest();
        }
        all
    }

    #[test]
    fn each_way_is_found_by_its_tag() {
        let word = word([0, 7, 1, 7, 200, 0, 255, 7]);
        assert_eq!(all(word.matches(Tag(7))), [1, 3]);
        assert_eq!(all(word.matches(Tag(200))), [4]);
        assert_eq!(all(word.matches(Tag(255))), [6]);
        assert!(all(word.matches(Tag(9))).is_empty());
        assert_eq!(word.empty().first(), Some(0));
        assert!(word.is_busy());
        assert!(!TagWord(1 << COUNT).is_busy(), "the count is no tag");
        assert_eq!(all(TagWord(0).empty()), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn no_hash_has_the_tag_of_an_empty_or_a_busy_way() {
        for hash in 0..=255 {
            assert!(u32::from(Tag::of(hash).0) >= FIRST);
        }
    }

    #[test]
    fn a_claim_that_was_overtaken_fails() {
        let tags = Tags::default();
        let seen = tags.load();
        let busy = tags.reserve(seen, 2).unwrap();
        assert!(tags.reserve(seen, 3).is_none());
        tags.publish(busy, 2, Tag(9));
        assert!(
            tags.reserve(seen, 3).is_none(),
            "it would not see the new record"
        );
        assert_eq!(all(tags.load().matches(Tag(9))), [2]);
    }

    #[test]
    fn an_abandoned_claim_is_freed() {
        let tags = Tags::default();
        tags.reserve(tags.load(), 6).unwrap();
        assert!(tags.load().is_busy());
        tags.free_busy(tags.load());
        assert_eq!(all(tags.load().empty()).len(), WAYS);
    }
}
