//! How full the tables are that the data path itself fills.

use aya::Ebpf;
use aya::maps::{Array, Map, MapData};
use proxy_ebpf::layout::{Address, CurrentSettings, Timeouts, V4, V6, maps};

use super::MapError;
use super::batch::for_each_raw;
use super::clock::now;
use super::flow_table::FlowTable;
use super::migrate::handle;

/// The tables that the data path itself fills, with handles of their own.
pub struct RecordTables {
    v4: FlowTable<V4>,
    v6: FlowTable<V6>,
    others: Vec<(&'static str, MapData)>,
    settings: Array<MapData, CurrentSettings<V4>>,
}

/// How full they are.
#[derive(Clone, Debug, Default)]
pub struct RecordUsage {
    /// Each table with its records, and how many there can be. Of flow records those count that
    /// are not over.
    pub tables: Vec<(&'static str, u64, u64)>,
}

impl RecordTables {
    /// The tables of a loaded object.
    pub(super) fn of(object: &Ebpf) -> Result<Self, MapError> {
        let open = |name| Ok((name, handle(object, name)?));
        let others = maps::ALL.iter().filter(|map| {
            let is_flow_table = [maps::FLOWS_V4.name, maps::FLOWS_V6.name].contains(&map.name);
            map.lifetime.is_filled_by_programs() && !is_flow_table
        });
        let (name, settings) = open(maps::CURRENT_SETTINGS_V4.name)?;
        Ok(Self {
            v4: FlowTable::of(object, maps::FLOWS_V4)?,
            v6: FlowTable::of(object, maps::FLOWS_V6)?,
            others: others
                .map(|map| open(map.name))
                .collect::<Result<_, MapError>>()?,
            settings: Array::try_from(Map::Array(settings))
                .map_err(|source| MapError::Write { map: name, source })?,
        })
    }

    /// Counts the records. Blocks for some hundred milliseconds where there are many.
    ///
    /// # Errors
    ///
    /// A table cannot be read.
    pub fn usage(&self) -> Result<RecordUsage, MapError> {
        let failed = |source| MapError::Write {
            map: maps::CURRENT_SETTINGS_V4.name,
            source,
        };
        let settings = self.settings.get(&0, 0).map_err(failed)?;
        let timeouts = settings.current().timeouts;
        let mut tables = vec![
            usage_of(&self.v4, &timeouts)?,
            usage_of(&self.v6, &timeouts)?,
        ];
        for (name, map) in &self.others {
            let failed = |source| MapError::Read { map: name, source };
            let info = map
                .info()
                .map_err(|source| MapError::Write { map: name, source })?;
            let sizes = [info.key_size() as usize, info.value_size() as usize];
            let mut records = 0;
            for_each_raw(map, sizes, |_, _| records += 1).map_err(failed)?;
            tables.push((name, records, info.max_entries().into()));
        }
        Ok(RecordUsage { tables })
    }
}

fn usage_of<A: Address>(
    table: &FlowTable<A>,
    timeouts: &Timeouts,
) -> Result<(&'static str, u64, u64), MapError> {
    let now = now().map_err(|source| MapError::Read {
        map: table.name(),
        source,
    })?;
    let mut records = 0;
    table.for_each(|record| records += u64::from(!record.is_over(timeouts, now)))?;
    Ok((table.name(), records, table.capacity()))
}
