//! The two buckets of a key: where its record is, and where it is made.

use super::lifetime::OVER;
use super::{Claim, NewRecord, Record, SAME_TAGS, Tag, TagWord, hide_way, opaque, write};
use crate::layout::{Address, Bucket, Timeouts, WAYS, flow_flags};
use crate::verifier::choose;

/// Where a record is tried to be made, one round after the other until there is room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round(u32);

impl Round {
    /// In the home bucket, where a way is empty or a record is over.
    pub const HOME: Self = Self(0);
    /// Likewise in the second bucket.
    pub const SECOND: Self = Self(1);
    /// In the home bucket, where a record can be spared that is not over.
    pub const EVICTING: Self = Self(2);

    const BITS: u32 = 3;

    /// The round that these bits say, of which only the lowest two count.
    #[inline(always)]
    pub const fn of(bits: u32) -> Self {
        Self(bits & Self::BITS)
    }

    /// The one that follows.
    #[inline(always)]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::EVICTING => None,
            Self(bits) => Some(Self(bits + 1)),
        }
    }

    /// What [`Self::of`] takes.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// All bits, if it is about the second bucket; else none.
    #[inline(always)]
    const fn second_mask(self) -> u32 {
        (self.0 & Self::SECOND.0).wrapping_neg()
    }

    /// How gladly a record has to be given up at least.
    #[inline(always)]
    const fn least_spare(self) -> u32 {
        choose((self.0 >> 1).wrapping_neg(), 1, OVER)
    }

    /// Of the home's index and the second bucket's: that of the one where the record is to be, and of
    /// the other one.
    #[inline(always)]
    pub const fn in_order(self, [home, second]: [u32; 2]) -> [u32; 2] {
        let is_second = self.second_mask();
        [
            choose(is_second, second, home),
            choose(is_second, home, second),
        ]
    }
}

/// The two buckets of a key in a round.
#[derive(Clone, Copy, Debug)]
pub struct Buckets<'a, A> {
    /// Where the record is to be.
    pub target: &'a Bucket<A>,
    /// The other one.
    pub other: &'a Bucket<A>,
}

impl<A: Address> Buckets<'_, A> {
    /// Makes a record in this round, in place of one with the same key where `replaces` says so.
    #[inline(always)]
    pub fn claim(
        &self,
        round: Round,
        new: &NewRecord<'_, A>,
        tag: Tag,
        timeouts: &Timeouts,
        replaces: impl FnOnce(&Record<'_, A>) -> bool,
    ) -> Claim {
        let seen = self.target.tags.load();
        // What is not looked at has no record of this home.
        let looks = seen.spilled_mask() | u64::from(round.second_mask());
        let beside = self.beside(looks, new.now);
        if seen.is_busy() || beside.is_busy() {
            return Claim::Busy;
        }
        // They are one and the same, as those of a few keys.
        if round.second_mask() != 0 && beside == seen {
            return Claim::Full;
        }
        let (found, is_here) = self.find(seen, beside, new, tag);
        let way = match found {
            Some(record) if !replaces(&record) => return Claim::Taken,
            Some(record) if is_here => record.way,
            // Then there is none: to be tried again.
            Some(record) => {
                self.other.tags.remove(beside, record.way);
                return Claim::Busy;
            }
            // One more would not be found.
            None if seen.matches(tag).count_exceeds(SAME_TAGS - 1) => WAYS,
            None => self
                .target
                .spare_way(seen, new, timeouts, round.least_spare()),
        };
        // However it was found: the verifier would follow each to the end.
        let way = hide_way(way, new.now);
        let Some(record) = self.target.record(seen, way) else {
            return Claim::Full;
        };
        let Some(busy) = self.target.tags.reserve(seen, way) else {
            return Claim::Busy;
        };
        if !self.is_alone(round, looks, beside, seen) {
            self.target.tags.withdraw(busy, way);
            return Claim::Busy;
        }
        let evicted = seen.is_used(way)
            && !new.key.are_of(&record.flow.key)
            && record.flags() & flow_flags::PLAIN == 0
            && !record.is_over(timeouts, new.now);
        write(record.flow, new);
        record.set_flags(new.flags);
        record.set_last_seen(new.now);
        self.target.tags.publish(busy, way, tag);
        Claim::Made { evicted }
    }

    /// The tags of the other bucket, where it is looked at.
    #[inline(always)]
    fn beside(&self, looks: u64, any: u32) -> TagWord {
        let tags = if looks == 0 {
            TagWord::default()
        } else {
            self.other.tags.load()
        };
        // As if it was read: the verifier would follow both to the end.
        tags.hidden(any)
    }

    /// The record with the key, and whether it is in the target.
    #[inline(always)]
    fn find(
        &self,
        seen: TagWord,
        beside: TagWord,
        new: &NewRecord<'_, A>,
        tag: Tag,
    ) -> (Option<Record<'_, A>>, bool) {
        let (mut bucket, mut tags) = (self.target, seen);
        // One after the other by the same code: twice it takes more stack than a program has.
        let mut left = opaque::<2>();
        while left > 0 {
            let found = bucket.find_in(tags, &new.key, tag);
            if found.is_some() {
                return (found, left == 2);
            }
            (bucket, tags) = (self.other, beside);
            left -= 1;
        }
        (None, false)
    }

    /// Whether nobody has made a record with the key in the other bucket, while a way of the target
    /// was reserved: whoever does so in the second bucket changes the tags of the home before the
    /// record is there, and processors may have read the two in any order.
    #[inline(always)]
    fn is_alone(&self, round: Round, looks: u64, beside: TagWord, seen: TagWord) -> bool {
        if looks == 0 || beside == seen {
            return true;
        }
        if round.second_mask() == 0 {
            self.other.tags.load() == beside
        } else {
            self.other.tags.spill(beside)
        }
    }
}
