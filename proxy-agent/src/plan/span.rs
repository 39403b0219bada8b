//! Runs of slots: which are free, and where a new one fits best.

use std::collections::{BTreeMap, BTreeSet};

use proxy_ebpf::layout::Span;

use super::adopt::IncompatibleMaps;

/// Allocates runs of a fixed number of slots.
#[derive(Debug)]
pub(super) struct SlotAllocator {
    /// Free runs by start.
    by_start: BTreeMap<u32, u32>,
    /// The same as (length, start): the first that is long enough fits best.
    by_length: BTreeSet<(u32, u32)>,
    available: u64,
}

impl SlotAllocator {
    /// An allocator of `slots` free slots.
    pub(super) fn new(slots: u32) -> Self {
        let mut spans = Self {
            by_start: BTreeMap::new(),
            by_length: BTreeSet::new(),
            available: 0,
        };
        spans.add(0, slots);
        spans
    }

    /// An allocator of `slots` slots of which some runs are taken.
    pub(super) fn without(
        slots: u32,
        taken: impl Iterator<Item = Span>,
    ) -> Result<Self, IncompatibleMaps> {
        let mut taken: Vec<Span> = taken.filter(|span| span.len > 0).collect();
        taken.sort_unstable_by_key(|span| span.start);
        let mut spans = Self::new(0);
        let mut free = 0;
        for Span { start, len } in taken {
            let gap = start
                .checked_sub(free)
                .ok_or(IncompatibleMaps::Inconsistent)?;
            spans.add(free, gap);
            free = start
                .checked_add(len)
                .ok_or(IncompatibleMaps::Inconsistent)?;
        }
        let rest = slots.checked_sub(free).ok_or(IncompatibleMaps::TooLarge)?;
        spans.add(free, rest);
        Ok(spans)
    }

    /// How many slots are free.
    pub(super) fn available(&self) -> u64 {
        self.available
    }

    /// Whether a free run is so long.
    pub(super) fn has_run(&self, len: u32) -> bool {
        let longest = self.by_length.last().map_or(0, |(free, _)| *free);
        len <= longest
    }

    /// A free run of `len` slots, or `None` where no run is that long.
    pub(super) fn allocate(&mut self, len: u32) -> Option<Span> {
        if len == 0 {
            return Some(Span::default());
        }
        let (free, start) = *self.by_length.range((len, 0)..).next()?;
        self.remove(start, free);
        self.add(start + len, free - len);
        Some(Span { start, len })
    }

    /// Gives a run back, and joins it with its free neighbours.
    pub(super) fn free(&mut self, span: Span) {
        let (mut start, mut len) = (span.start, span.len);
        if len == 0 {
            return;
        }
        if let Some((&before, &free)) = self.by_start.range(..start).next_back()
            && before + free == start
        {
            self.remove(before, free);
            (start, len) = (before, free + len);
        }
        if let Some(&free) = self.by_start.get(&(start + len)) {
            self.remove(start + len, free);
            len += free;
        }
        self.add(start, len);
    }

    fn add(&mut self, start: u32, len: u32) {
        if len > 0 {
            self.by_start.insert(start, len);
            self.by_length.insert((len, start));
            self.available += u64::from(len);
        }
    }

    fn remove(&mut self, start: u32, len: u32) {
        self.by_start.remove(&start);
        self.by_length.remove(&(len, start));
        self.available -= u64::from(len);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_of_it_can_be_taken_and_given_back() {
        let mut spans = SlotAllocator::new(10);
        let a = spans.allocate(4).unwrap();
        let b = spans.allocate(6).unwrap();
        assert_eq!(spans.allocate(1), None);
        spans.free(a);
        assert_eq!(spans.allocate(5), None);
        spans.free(b);
        assert_eq!(spans.allocate(10), Some(Span { start: 0, len: 10 }));
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_nothing_is_lost(
            steps in prop::collection::vec((any::<bool>(), 1u32..9, any::<prop::sample::Index>()), 1..80)
        ) {
            let mut spans = SlotAllocator::new(64);
            let mut taken: Vec<Span> = Vec::new();
            for (take, len, which) in steps {
                if take {
                    if let Some(span) = spans.allocate(len) {
                        for other in &taken {
                            prop_assert!(
                                span.start + span.len <= other.start
                                    || other.start + other.len <= span.start
                            );
                        }
                        taken.push(span);
                    }
                } else if !taken.is_empty() {
                    spans.free(taken.swap_remove(which.index(taken.len())));
                }
            }
            for span in taken {
                spans.free(span);
            }
            prop_assert_eq!(spans.available(), 64);
            prop_assert!(spans.has_run(64) && !spans.has_run(65));
            prop_assert_eq!(spans.allocate(64), Some(Span { start: 0, len: 64 }));
        }
    }
}
