//! The flow table as memory: the programs' buckets, mapped into this process.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::MapData;
use proxy_ebpf::flow_table::{Buckets, Claim, HeldRecord, NewRecord, Place, Record, Round};
use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::{
    Address, Bucket, Edge, FlowSeed, KeyParts, MapSpec, Timeouts, flow_flags,
};

use super::MapError;
use super::mapped::Mapping;
use super::migrate::handle;

/// How much of a table is mapped at once to read it: what is mapped counts as this process's
/// memory.
const WINDOW: usize = 1024 * 1024;

/// A flow table, of which nothing is mapped.
pub(super) struct FlowTable<A> {
    name: &'static str,
    map: MapData,
    buckets: u32,
    _address: std::marker::PhantomData<A>,
}

impl<A: Address> FlowTable<A> {
    /// The table of a loaded object.
    pub(super) fn of(object: &Ebpf, spec: MapSpec) -> Result<Self, MapError> {
        Self::new(spec.name, handle(object, spec.name)?)
    }

    /// The table that is pinned in a folder.
    pub(super) fn of_pin(folder: &Path, spec: MapSpec) -> Result<Self, MapError> {
        let name = spec.name;
        let map = MapData::from_pin(folder.join(name));
        Self::new(
            name,
            map.map_err(|source| MapError::Write { map: name, source })?,
        )
    }

    /// The table in a map.
    pub(super) fn new(name: &'static str, map: MapData) -> Result<Self, MapError> {
        let info = map
            .info()
            .map_err(|source| MapError::Write { map: name, source })?;
        if info.value_size() as usize != size_of::<Bucket<A>>() {
            let source = std::io::Error::other("its elements are of another layout");
            return Err(MapError::Read { map: name, source });
        }
        Ok(Self {
            name,
            map,
            buckets: info.max_entries(),
            _address: std::marker::PhantomData,
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// How many records it has room for.
    pub(super) fn capacity(&self) -> u64 {
        u64::from(self.buckets) * proxy_ebpf::layout::WAYS as u64
    }

    /// Hands every bucket to `take`; what is written meanwhile is seen, or is not.
    pub(super) fn for_each_bucket(&self, mut take: impl FnMut(&Bucket<A>)) -> Result<(), MapError> {
        let count = self.buckets as usize;
        let at_once = WINDOW / size_of::<Bucket<A>>();
        for first in (0..count).step_by(at_once) {
            let last = count.min(first + at_once);
            let mapped = MappedBuckets::new(&self.map, first..last)?;
            mapped.buckets().iter().for_each(&mut take);
        }
        Ok(())
    }

    /// Hands every record to `take`.
    pub(super) fn for_each(&self, mut take: impl FnMut(&Record<'_, A>)) -> Result<(), MapError> {
        self.for_each_bucket(|bucket| bucket.records().for_each(|record| take(&record)))
    }

    /// Shows a copy of the table in memory, of which each bucket is read when it is asked for. One
    /// that cannot be read is empty.
    pub(super) fn show_in(self, memory: &mut Memory<A>) {
        memory.set_buckets(self.buckets);
        memory.read_bucket = Box::new(move |index| self.read(index).unwrap_or_default());
    }

    /// A copy of a bucket. What programs are writing meanwhile is not in it.
    fn read(&self, index: u32) -> Option<Bucket<A>> {
        let index = index as usize;
        let mapped = MappedBuckets::<A>::new(&self.map, index..index + 1).ok()?;
        let there: *const Bucket<A> = mapped.buckets().first()?;
        // SAFETY: a bucket that is mapped; all bit patterns are buckets.
        let copy = unsafe { there.read_volatile() };
        copy.free_abandoned(copy.tags.load());
        Some(copy)
    }

    /// Frees what an agent has left unfinished that was ended in the middle of it. Programs claim
    /// records meanwhile: what is busy for longer than that takes is nobody's.
    pub(super) fn free_abandoned(&self) -> Result<(), MapError> {
        let mut busy = BTreeMap::new();
        let mut index = 0_usize;
        self.for_each_bucket(|bucket| {
            let tags = bucket.tags.load();
            if tags.is_busy() {
                busy.insert(index, tags);
            }
            index += 1;
        })?;
        if busy.is_empty() {
            return Ok(());
        }
        std::thread::sleep(LONGEST_CLAIM);
        let all = MappedBuckets::<A>::new(&self.map, 0..self.buckets as usize)?;
        for (index, tags) in busy {
            if let Some(bucket) = all.buckets().get(index) {
                bucket.free_abandoned(tags);
            }
        }
        Ok(())
    }

    /// Maps all of it, to make records.
    pub(super) fn open(&self, seed: FlowSeed) -> Result<OpenFlowTable<A>, MapError> {
        Ok(OpenFlowTable {
            mapped: MappedBuckets::new(&self.map, 0..self.buckets as usize)?,
            seed,
        })
    }
}

/// A flow table that is mapped whole.
pub(super) struct OpenFlowTable<A> {
    mapped: MappedBuckets<A>,
    seed: FlowSeed,
}

impl<A: Address> OpenFlowTable<A> {
    /// Copies a record of another table, with all that is known of it. To one with its key what
    /// the other table has heard of it since is added.
    pub(super) fn copy(&self, record: &Record<'_, A>) {
        self.copy_under(record, &record.key.by_parts(), record.flags());
    }

    /// The same, under this key and with these flags. False if there is no room.
    pub(super) fn copy_under(
        &self,
        record: &Record<'_, A>,
        key: &KeyParts<'_, A>,
        flags: u32,
    ) -> bool {
        self.insert(&NewRecord {
            key: *key,
            tuple: KeyParts::of(&record.tuple, 0, Edge::Ingress),
            backend: record.backend,
            generation: record.generation,
            service: record.service,
            packets: record.packets.get(),
            client_end: record.ends[0].get(),
            flags,
            now: record.last_seen(),
        });
        let copy = self.find(key);
        let Some(copy) = copy.filter(|copy| copy.tuple == record.tuple) else {
            return false;
        };
        let established = !flags & flow_flags::EMBRYONIC;
        let heard = flags & !flow_flags::EMBRYONIC;
        copy.set_flags((copy.flags() | heard) & !established);
        for (copied, known) in [
            (&copy.acknowledged, &record.acknowledged),
            (&copy.ends[0], &record.ends[0]),
            (&copy.ends[1], &record.ends[1]),
        ] {
            if known.get() != 0 {
                copied.set(known.get());
            }
        }
        true
    }

    /// The record under a key.
    pub(super) fn find(&self, key: &KeyParts<'_, A>) -> Option<Record<'_, A>> {
        let place = Place::of(key, self.seed);
        let home = self.bucket(self.index(place))?;
        match home.find(key, place.tag()) {
            None if home.has_spilled() => {
                let second = self.bucket(self.index(place.second()))?;
                second.find(key, place.tag())
            }
            found => found,
        }
    }

    /// Keeps everybody from the record under a key.
    pub(super) fn hold(&self, key: &KeyParts<'_, A>) -> Option<HeldRecord<'_, A>> {
        let tag = Place::of(key, self.seed).tag();
        (0..ATTEMPTS).find_map(|_| self.find(key)?.hold(tag))
    }

    fn index(&self, place: Place) -> u32 {
        let count = self.mapped.buckets().len();
        place.bucket(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn bucket(&self, index: u32) -> Option<&Bucket<A>> {
        self.mapped.buckets().get(index as usize)
    }

    /// Makes a record where there is none with its key. False if there is one, or no room.
    pub(super) fn insert(&self, record: &NewRecord<'_, A>) -> bool {
        let mut round = Round::HOME;
        // A program's claim takes less than a microsecond.
        for _ in 0..ATTEMPTS {
            match self.claim(record, round) {
                Some(Claim::Made { .. }) => return true,
                Some(Claim::Taken) | None => return false,
                Some(Claim::Busy) => std::thread::yield_now(),
                Some(Claim::Full) => match round.next() {
                    Some(next) => round = next,
                    None => return false,
                },
            }
        }
        false
    }

    fn claim(&self, record: &NewRecord<'_, A>, round: Round) -> Option<Claim> {
        let place = Place::of(&record.key, self.seed);
        let indices = [place, place.second()].map(|it| self.index(it));
        let [target, other] = round.in_order(indices);
        let buckets = Buckets {
            target: self.bucket(target)?,
            other: self.bucket(other)?,
        };
        Some(buckets.claim(round, record, place.tag(), &Timeouts::DEFAULT, |_| false))
    }
}

/// A program's claim takes less than a microsecond, and a virtual machine may stand still
/// meanwhile.
const LONGEST_CLAIM: Duration = Duration::from_millis(100);

const ATTEMPTS: u32 = 10_000;

/// Buckets that are mapped.
struct MappedBuckets<A> {
    mapping: Mapping,
    /// Where the first one is in the mapping, in bytes.
    offset: usize,
    count: usize,
    _address: std::marker::PhantomData<A>,
}

impl<A: Address> MappedBuckets<A> {
    fn new(map: &MapData, range: std::ops::Range<usize>) -> Result<Self, MapError> {
        let size = size_of::<Bucket<A>>();
        let bytes = range.start * size..range.end * size;
        let (mapping, offset) = Mapping::of_range(map, bytes)?;
        Ok(Self {
            mapping,
            offset,
            count: range.len(),
            _address: std::marker::PhantomData,
        })
    }

    fn buckets(&self) -> &[Bucket<A>] {
        // SAFETY: within the mapping, aligned to 8 bytes as every element of a map; all bit
        // patterns are buckets, and what programs write meanwhile are words and, in busy ways,
        // records that nobody reads.
        unsafe {
            let first = self.mapping.start().add(self.offset);
            std::slice::from_raw_parts(first.cast(), self.count)
        }
    }
}
