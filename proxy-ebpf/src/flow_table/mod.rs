//! The flow table: buckets of records, in memory that all CPUs and the agent share.
//!
//! A record is found by the tag of its key and claimed by comparing and exchanging the bucket's
//! tags: claims of one bucket follow each other, so that no key ever has two records. Where all
//! records of a key's home bucket live, its second one takes the new record, and the home is marked
//! as spilled: only then is the second one looked at to find a key. Where that is full as well, the
//! record of the home that can be spared most gives way ([`Timeouts`]). A record that is over
//! translates late packets until its way is needed.

mod atomic;
mod buckets;
mod hash;
mod lifetime;
mod tags;

pub use atomic::opaque;
pub use buckets::{Buckets, Round};
pub use hash::Place;
pub use lifetime::{BOTH_FINS, idle};
pub use tags::{Tag, TagWord, Tags};

use core::ops::Deref;

#[cfg(any(test, feature = "host"))]
use crate::layout::FlowKey;
use crate::layout::{Address, Bucket, Flow, KeyParts, Timeouts, Tuple, WAYS, WayState};
use crate::verifier::{barrier_var, hide_bounds};

/// Records of a bucket that may have one tag. By chance more would meet once in some hundred
/// million flows.
const SAME_TAGS: usize = 4;

/// A record in place.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a, A> {
    bucket: &'a Bucket<A>,
    state: &'a WayState,
    flow: &'a Flow<A>,
    seen: TagWord,
    way: usize,
}

impl<A> Deref for Record<'_, A> {
    type Target = Flow<A>;

    #[inline(always)]
    fn deref(&self) -> &Flow<A> {
        self.flow
    }
}

impl<A> Record<'_, A> {
    /// Bits of [`flow_flags`](crate::layout::flow_flags).
    #[inline(always)]
    pub fn flags(&self) -> u32 {
        self.state.flags.get()
    }

    /// Replaces the flags. Not one atomic step: a lost bit is set again by the next packet that
    /// carries it, or costs a later timeout.
    #[inline(always)]
    pub fn set_flags(&self, flags: u32) {
        self.state.flags.set(flags);
    }

    /// Sets `bits` in the flags.
    #[inline(always)]
    pub fn mark(&self, bits: u32) {
        self.set_flags(self.flags() | bits);
    }

    /// When a packet last used the record.
    #[inline(always)]
    pub fn last_seen(&self) -> u32 {
        self.state.last_seen.get()
    }

    /// A packet uses the record now.
    #[inline(always)]
    pub fn set_last_seen(&self, now: u32) {
        self.state.last_seen.set(now);
    }

    /// Ticks since the record was used.
    #[inline(always)]
    pub fn idle(&self, now: u32) -> u32 {
        idle(self.last_seen(), now)
    }

    /// Whether the record is over.
    #[inline(always)]
    pub fn is_over(&self, timeouts: &Timeouts, now: u32) -> bool {
        timeouts.is_over(self.flags(), self.idle(now))
    }

    /// Whether the record is still the one that was found: what was read of it is whole.
    #[inline(always)]
    pub fn is_unchanged(&self) -> bool {
        self.bucket.tags.load().has_same(self.seen, self.way)
    }
}

#[cfg(any(test, feature = "host"))]
impl<'a, A> Record<'a, A> {
    /// Keeps everybody from the record, which has this tag, for a moment: its way is busy, so that
    /// packets wait. `None` where the bucket has changed, or is about to.
    pub fn hold(self, tag: Tag) -> Option<HeldRecord<'a, A>> {
        if self.seen.is_busy() {
            return None;
        }
        let busy = self.bucket.tags.reserve(self.seen, self.way)?;
        Some(HeldRecord {
            record: self,
            busy,
            tag,
        })
    }
}

/// A record that nobody finds, and whose bucket nobody claims in.
#[cfg(any(test, feature = "host"))]
#[derive(Debug)]
#[must_use = "until it is released nobody claims in its bucket"]
pub struct HeldRecord<'a, A> {
    record: Record<'a, A>,
    busy: TagWord,
    tag: Tag,
}

#[cfg(any(test, feature = "host"))]
impl<A> HeldRecord<'_, A> {
    /// Lets everybody find it again, with these flags.
    pub fn release(self, flags: u32) {
        let Record { bucket, way, .. } = self.record;
        self.record.set_flags(flags);
        bucket.tags.publish(self.busy, way, self.tag);
    }
}

/// What came of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// The record is there.
    Made {
        /// That of a flow that was not over had to make way.
        evicted: bool,
    },
    /// Another one has the key, and keeps it.
    Taken,
    /// No record of the bucket can be spared in this [`Round`].
    Full,
    /// Another CPU claims a record of the bucket: to be tried again.
    Busy,
}

/// A record to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a, A> {
    /// Which packets it is for.
    pub key: KeyParts<'a, A>,
    /// The tuple that they get, by the parts of a key.
    pub tuple: KeyParts<'a, A>,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
    /// Packets that it has translated.
    pub packets: u32,
    /// What follows the client's SYN.
    pub client_end: u32,
    /// Its flags.
    pub flags: u32,
    /// When it is used first.
    pub now: u32,
}

impl<A: Address> Bucket<A> {
    /// The record of a key.
    #[inline(always)]
    pub fn find(&self, key: &KeyParts<'_, A>, tag: Tag) -> Option<Record<'_, A>> {
        self.find_in(self.tags.load(), key, tag)
    }

    #[inline(always)]
    fn find_in(&self, seen: TagWord, key: &KeyParts<'_, A>, tag: Tag) -> Option<Record<'_, A>> {
        let mut ways = seen.matches(tag);
        // Not to be unrolled: that takes more stack than a program has.
        let mut left = opaque::<SAME_TAGS>();
        while left > 0 {
            let record = self.record(seen, ways.first()?)?;
            if key.are_of(&record.flow.key) {
                return Some(record);
            }
            ways = ways.rest();
            left -= 1;
        }
        None
    }

    #[inline(always)]
    fn record(&self, seen: TagWord, way: usize) -> Option<Record<'_, A>> {
        Some(Record {
            bucket: self,
            state: self.states.get(way)?,
            flow: self.flows.get(way)?,
            seen,
            way,
        })
    }

    /// An empty way, or that of the record that can be spared most, at `least` so gladly; [`WAYS`]
    /// where there is none.
    #[inline(always)]
    fn spare_way(
        &self,
        seen: TagWord,
        new: &NewRecord<'_, A>,
        timeouts: &Timeouts,
        least: u32,
    ) -> usize {
        if let Some(way) = seen.empty().first() {
            return way;
        }
        let mut best = 0;
        let mut spared = 0;
        let mut way = 0;
        while way < opaque::<WAYS>() {
            let Some(state) = self.states.get(way) else {
                break;
            };
            let idle = hide_bounds(idle(state.last_seen.get(), new.now), new.now);
            let newcomer = hide_bounds(new.flags, new.now);
            // Of equal ones another in turn: what was made just now is not given up again.
            let spare = timeouts.spare(state.flags.get(), idle, newcomer, seen.turn_of(way));
            // Of one way as of the other: the verifier would follow each choice to the end.
            let spare = hide_bounds(spare, new.now);
            if spare > best {
                best = spare;
                spared = way;
            }
            best = hide_bounds(best, new.now);
            spared = hide_way(spared, new.now);
            way += 1;
        }
        if best >= least { spared } else { WAYS }
    }

    /// Whether a record whose home this is may be in its second bucket.
    #[inline(always)]
    pub fn has_spilled(&self) -> bool {
        self.tags.load().spilled_mask() != 0
    }

    /// Whether a record is being written.
    #[inline(always)]
    pub fn is_busy(&self) -> bool {
        self.tags.load().is_busy()
    }

    /// Every record, with its state. What programs write meanwhile may be read half.
    pub fn records(&self) -> impl Iterator<Item = Record<'_, A>> {
        let seen = self.tags.load();
        let used = (0..WAYS).filter(move |way| seen.is_used(*way));
        used.filter_map(move |way| self.record(seen, way))
    }

    /// Removes a record of a table that nobody else has.
    #[cfg(any(test, feature = "host"))]
    pub fn remove(&self, key: &FlowKey<A>) {
        let found = self.records().find(|record| record.key == *key);
        if let Some(record) = found {
            self.tags.remove(record.seen, record.way);
        }
    }

    /// Begins a claim that nobody ends, as that of a CPU that was interrupted.
    #[cfg(any(test, feature = "host"))]
    pub fn abandon_claim(&self, way: usize) {
        let _ = self.tags.reserve(self.tags.load(), way);
    }

    /// Frees the ways whose writers have ended in the middle of a claim: they are still busy as
    /// they were when the tags were `seen`, longer ago than a claim takes.
    pub fn free_abandoned(&self, seen: TagWord) {
        self.tags.free_busy(seen);
    }
}

/// The number of a way, of which the verifier knows nothing.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "7 at most")]
fn hide_way(way: usize, any: u32) -> usize {
    // One register: the compiler would check one, and index by another.
    barrier_var(hide_bounds(way as u32, any) as usize)
}

/// Writes a record that nobody reads: its way is busy.
#[inline(always)]
#[expect(unsafe_code, reason = "memory that is shared")]
fn write<A: Copy>(to: &Flow<A>, new: &NewRecord<'_, A>) {
    // SAFETY: the record lies in a map's memory, which is writable; its way is busy, so that
    // nobody else writes to it, and whoever reads it looks at the tags again.
    unsafe {
        let to = core::ptr::from_ref(to).cast_mut();
        let key = &raw mut (*to).key;
        write_tuple(&raw mut (*key).tuple, &new.key);
        (&raw mut (*key).protocol).write(new.key.protocol);
        (&raw mut (*key).edge).write(new.key.edge);
        (&raw mut (*key).pad).write(0);
        write_tuple(&raw mut (*to).tuple, &new.tuple);
        (&raw mut (*to).backend).write(new.backend);
        (&raw mut (*to).generation).write(new.generation);
        (&raw mut (*to).service).write(new.service);
    }
    to.packets.set(new.packets);
    to.acknowledged.set(0);
    to.ends[0].set(new.client_end);
    to.ends[1].set(0);
    to.unanswered_syns.set(0);
}

/// Writes a tuple.
///
/// # Safety
///
/// `to` is writable.
#[inline(always)]
#[expect(unsafe_code, reason = "memory that is shared")]
unsafe fn write_tuple<A: Copy>(to: *mut Tuple<A>, from: &KeyParts<'_, A>) {
    // SAFETY: as the caller promises.
    unsafe {
        (&raw mut (*to).source).write(*from.source);
        (&raw mut (*to).destination).write(*from.destination);
        (&raw mut (*to).source_port).write(from.ports[0]);
        (&raw mut (*to).destination_port).write(from.ports[1]);
    }
}

#[cfg(test)]
mod tests;
