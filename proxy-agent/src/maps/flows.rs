//! How full the tables are that the data path itself fills.
//!
//! The kernel does not report how many records an LRU table has, nor how many it evicted:
//! the records are counted, all of them, and what was made and neither removed nor is
//! there was evicted.

use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use proxy_ebpf::layout::{Counter, maps};

use super::MapError;
use super::batch::for_each_raw;
use super::migrate::handle;

/// Tables of flow records.
pub(super) const FLOWS: [&str; 4] = [
    maps::FLOWS_V4.name,
    maps::FLOWS_V6.name,
    maps::OPENING_V4.name,
    maps::OPENING_V6.name,
];

/// The tables that the data path itself fills, with handles of their own.
pub struct RecordTables {
    tables: Vec<(&'static str, MapData)>,
    counters: PerCpuArray<MapData, u64>,
}

/// How full they are.
#[derive(Clone, Debug, Default)]
pub struct RecordUsage {
    /// Each table with its records, and how many there can be.
    pub tables: Vec<(&'static str, u64, u64)>,
    /// Flow records that were evicted, at least; exact while no flow begins or ends.
    pub evicted: u64,
}

impl RecordTables {
    /// The tables of a loaded object.
    pub(super) fn of(object: &Ebpf) -> Result<Self, MapError> {
        let open = |name| Ok((name, handle(object, name)?));
        let filled = maps::ALL
            .iter()
            .filter(|map| map.lifetime.is_filled_by_programs());
        let (name, counters) = open(maps::COUNTERS.name)?;
        let counters = aya::maps::Map::PerCpuArray(counters);
        Ok(Self {
            tables: filled
                .map(|map| open(map.name))
                .collect::<Result<_, MapError>>()?,
            counters: PerCpuArray::try_from(counters)
                .map_err(|source| MapError::Write { map: name, source })?,
        })
    }

    /// Counts the records. Blocks for some hundred milliseconds where there are many.
    ///
    /// # Errors
    ///
    /// A table cannot be read.
    pub fn usage(&self) -> Result<RecordUsage, MapError> {
        // Before the records: what is made meanwhile is not taken for evicted.
        let made = self.counter(Counter::RecordsInserted)?;
        let mut usage = RecordUsage::default();
        let mut present = 0;
        for (name, map) in &self.tables {
            let failed = |source| MapError::Read { map: name, source };
            let info = map
                .info()
                .map_err(|source| MapError::Write { map: name, source })?;
            let sizes = [info.key_size() as usize, info.value_size() as usize];
            let mut records = 0;
            for_each_raw(map, sizes, |_, _| records += 1).map_err(failed)?;
            if FLOWS.contains(name) {
                present += records;
            }
            usage
                .tables
                .push((name, records, info.max_entries().into()));
        }
        let removed = self.counter(Counter::RecordsRemoved)?;
        usage.evicted = made.saturating_sub(removed).saturating_sub(present);
        Ok(usage)
    }

    fn counter(&self, counter: Counter) -> Result<u64, MapError> {
        let values = self.counters.get(&(counter as u32), 0);
        let values = values.map_err(|source| MapError::Write {
            map: maps::COUNTERS.name,
            source,
        })?;
        Ok(values.iter().sum())
    }
}
