//! Numbers from a fixed range: backend indices with their generations, and
//! Service port ids.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use proxy_ebpf::layout::RESET_STEP;

/// Numbers below a limit, each free or taken. What was given back is used before
/// what never was, so that the part of a map that is in use stays small.
#[derive(Debug)]
pub(super) struct IdAllocator {
    limit: u32,
    next_unused: u32,
    free: Vec<u32>,
}

impl IdAllocator {
    /// Numbers from 0 to `limit - 1`, all free.
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            next_unused: 0,
            free: Vec::new(),
        }
    }

    /// Numbers of which some are taken; `None` where these are not all below `limit`.
    pub(super) fn holding(limit: u32, taken: &BTreeSet<u32>) -> Option<Self> {
        let next_unused = taken.last().map_or(0, |last| last.saturating_add(1));
        let free = (0..next_unused).filter(|number| !taken.contains(number));
        (next_unused <= limit).then(|| Self {
            limit,
            next_unused,
            // The lowest is used first.
            free: free.rev().collect(),
        })
    }

    /// The limit.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// How many are taken.
    pub(super) fn used(&self) -> usize {
        self.next_unused as usize - self.free.len()
    }

    /// How many are free.
    pub(super) fn available(&self) -> usize {
        (self.limit - self.next_unused) as usize + self.free.len()
    }

    /// Takes one.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        if self.next_unused == self.limit {
            return None;
        }
        self.next_unused += 1;
        Some(self.next_unused - 1)
    }

    /// Gives one back.
    pub(super) fn release(&mut self, number: u32) {
        self.free.push(number);
    }
}

/// A backend whose life has ended, and connections to which may have to be reset. Its index
/// is given to another one where no other is free.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuarantinedBackend {
    pub(super) since: Instant,
    pub(super) index: u32,
    pub(super) endpoint: SocketAddr,
}

/// The backends of one IP version: indices, and how often each has been used.
#[derive(Debug)]
pub(super) struct Backends {
    indices: IdAllocator,
    /// By index; odd while the index is in use.
    generations: Vec<u32>,
    /// The one that rests for longest first.
    quarantine: VecDeque<QuarantinedBackend>,
}

impl Backends {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            indices: IdAllocator::new(limit),
            generations: Vec::new(),
            quarantine: VecDeque::new(),
        }
    }

    /// Backends that lived before, each with its index and last generation; those with an
    /// odd one live on, and some of the others rest. `None` where there is no room for them.
    pub(super) fn holding(
        limit: u32,
        lives: impl IntoIterator<Item = (u32, u32)>,
        quarantine: VecDeque<QuarantinedBackend>,
    ) -> Option<Self> {
        let mut backends = Self::new(limit);
        let mut taken: BTreeSet<u32> = quarantine.iter().map(|it| it.index).collect();
        for (index, generation) in lives {
            let at = usize::try_from(index).ok().filter(|_| index < limit)?;
            if at >= backends.generations.len() {
                backends.generations.resize(at + 1, 0);
            }
            backends.generations[at] = generation;
            if generation & 1 == 1 {
                taken.insert(index);
            }
        }
        backends.indices = IdAllocator::holding(limit, &taken)?;
        backends.quarantine = quarantine;
        Some(backends)
    }

    pub(super) fn available(&self) -> usize {
        self.indices.available() + self.quarantine.len()
    }

    pub(super) fn used(&self) -> usize {
        self.indices.used() - self.quarantine.len()
    }

    /// Begins a life: an index and its new generation, odd.
    pub(super) fn begin(&mut self) -> Option<(u32, u32)> {
        let free = self.indices.take();
        let index = free.or_else(|| Some(self.quarantine.pop_front()?.index))?;
        let at = index as usize;
        if at >= self.generations.len() {
            self.generations.resize(at + 1, 0);
        }
        self.generations[at] = self.generations[at].wrapping_add(1);
        Some((index, self.generations[at]))
    }

    /// The generation of an index that is in use.
    pub(super) fn generation(&self, index: u32) -> u32 {
        self.generations[index as usize]
    }

    /// The generation of an index, in use or not; 0 where it never was.
    pub(super) fn last_generation(&self, index: u32) -> u32 {
        let generation = self.generations.get(index as usize);
        generation.copied().unwrap_or(0)
    }

    /// Ends a life: the generation that nobody's record matches, even. The index
    /// is not free before [`Self::release`].
    pub(super) fn end(&mut self, index: u32) -> u32 {
        let generation = &mut self.generations[index as usize];
        *generation = generation.wrapping_add(1);
        *generation
    }

    pub(super) fn release(&mut self, index: u32) {
        self.indices.release(index);
    }

    /// Lets a backend rest whose life has ended, in the place of [`Self::release`].
    pub(super) fn add_to_quarantine(&mut self, quarantine: QuarantinedBackend) {
        self.quarantine.push_back(quarantine);
    }

    /// Since when the one has rested that rests for longest.
    pub(super) fn oldest_quarantine(&self) -> Option<Instant> {
        self.quarantine.front().map(|quarantine| quarantine.since)
    }

    /// Takes those that have rested since `then` or for longer.
    pub(super) fn take_expired(&mut self, then: Instant) -> Vec<QuarantinedBackend> {
        let count = self.quarantine.partition_point(|it| it.since <= then);
        self.quarantine.drain(..count).collect()
    }

    /// Ends a rest: the generation, even, that has connections reset. The index is free.
    pub(super) fn reset(&mut self, index: u32) -> u32 {
        let generation = &mut self.generations[index as usize];
        *generation = generation.wrapping_add(RESET_STEP);
        let generation = *generation;
        self.release(index);
        generation
    }
}
