//! Who may have what of the maps' room.
//!
//! A change puts the new beside the old until a grace period has passed. So that what is
//! served already can always change, a part of each pool is not given to what is new, and
//! half of that not to what grows. And tables for consistent hashing, which take a hundred
//! times the slots that their endpoints do, are held to a share of them.

use std::collections::HashMap;

use super::outcome::FullMap;
use super::planner::{Planner, at};
use super::programmed::{Programmed, index_of};
use super::slots;
use super::write::FrontendId;
use crate::model::desired::{DesiredPort, PortName};
use crate::model::object::{Algorithm, ObjectName};

/// One in so many elements is kept from Service ports that are new.
const RESERVE: usize = 8;

/// All tables together may have one in so many slots ...
const TABLES: u64 = 2;

/// ... and those of one Service one in so many.
const TABLES_OF_SERVICE: u64 = 4;

/// What becomes of a Service port's part of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    New,
    Growth,
    Replacement,
}

impl Change {
    fn of(before: Option<usize>, after: usize) -> Self {
        match before {
            None => Self::New,
            Some(before) if after > before => Self::Growth,
            Some(_) => Self::Replacement,
        }
    }

    /// Whether a pool of this size, of which so much is free, has room for so much.
    fn fits(self, wanted: usize, free: usize, size: usize) -> bool {
        let reserve = size / RESERVE;
        let kept = match self {
            Self::New => reserve,
            Self::Growth => reserve / 2,
            Self::Replacement => 0,
        };
        wanted == 0 || wanted.saturating_add(kept) <= free
    }
}

/// An amount of elements of a pool, and what it is for.
#[derive(Clone, Copy, Debug)]
struct Need {
    amount: usize,
    change: Change,
}

impl Need {
    /// `amount` elements, so that the Service port has `after` of them.
    fn new(amount: usize, before: Option<usize>, after: usize) -> Self {
        Self {
            amount,
            change: Change::of(before, after),
        }
    }

    fn fits(self, free: usize, size: u32) -> bool {
        self.change.fits(self.amount, free, size as usize)
    }
}

/// What a Service port takes to be as desired, beside what it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    frontends: Need,
    backends: Need,
    source_ranges: Need,
    slots: Need,
    /// Slots in tables, all of them, and those that they are in place of.
    tables: u32,
    tables_before: u32,
}

impl Needs {
    /// How many slots it takes.
    pub(super) fn slots(&self) -> u32 {
        u32::try_from(self.slots.amount).unwrap_or(u32::MAX)
    }

    /// How many of these are in tables.
    pub(super) fn tables(&self) -> u32 {
        self.tables
    }
}

/// How many slots the tables of each Service have that has any.
#[derive(Debug, Default)]
pub(super) struct Tables {
    by_service: HashMap<ObjectName, u64>,
    total: u64,
}

impl Tables {
    /// A Service has so many slots in tables in the place of others.
    pub(super) fn replace(&mut self, service: &ObjectName, before: u32, after: u32) {
        if before == after {
            return;
        }
        let own = self.by_service.entry(service.clone()).or_default();
        let own_before = *own;
        *own = (own_before + u64::from(after)).saturating_sub(before.into());
        self.total = (self.total + *own).saturating_sub(own_before);
        if *own == 0 {
            self.by_service.remove(service);
        }
    }

    fn fit(&self, service: &ObjectName, needs: &Needs, slots: u32) -> bool {
        let (before, after) = (u64::from(needs.tables_before), u64::from(needs.tables));
        if after <= before {
            return true;
        }
        let more = after - before;
        let own = self.by_service.get(service).copied().unwrap_or(0);
        let slots = u64::from(slots);
        self.total + more <= slots / TABLES && own + more <= slots / TABLES_OF_SERVICE
    }
}

impl Planner {
    /// What a Service port takes to be as desired, its connections chosen by `algorithm`.
    pub(super) fn needs(
        &self,
        name: &PortName,
        desired: &DesiredPort,
        algorithm: Algorithm,
        old: Option<&Programmed>,
    ) -> Needs {
        let new_frontends = desired
            .frontends
            .iter()
            .map(|frontend| FrontendId::of(name, frontend))
            .filter(|id| !self.owners.contains_key(id) && !self.unclaimed.has_frontend(id))
            .count();
        let new_backends = desired
            .endpoints
            .iter()
            .filter(|endpoint| old.is_none_or(|old| index_of(&old.backends, endpoint).is_none()))
            .count();
        let ranges = desired.source_ranges.as_ref().map_or(0, |it| it.len());
        let slots = slots::count(desired, algorithm);
        let is_table = algorithm == Algorithm::Maglev;
        Needs {
            frontends: Need::new(
                new_frontends,
                old.map(|old| old.frontends.len()),
                desired.frontends.len(),
            ),
            backends: Need::new(
                new_backends,
                old.map(|old| old.backends.len()),
                desired.endpoints.len(),
            ),
            source_ranges: Need::new(ranges, old.map(|old| old.ranges().len()), ranges),
            slots: Need::new(slots, old.map(|old| old.slots.len()), slots),
            tables: if is_table {
                u32::try_from(slots).unwrap_or(u32::MAX)
            } else {
                0
            },
            tables_before: old.map_or(0, Programmed::table_slots),
        }
    }

    /// Whether the maps have so much, and may give it to this Service port.
    pub(super) fn has_room(&self, name: &PortName, needs: &Needs) -> Result<(), FullMap> {
        let of_family = at(name.family);
        let capacity = self.capacity;
        let free = |used: usize| (capacity.frontends as usize).saturating_sub(used);
        let free_frontends = free(self.frontends[of_family] as usize);
        let free_ranges = free(self.source_ranges[of_family]);
        let free_backends = self.backends[of_family].available();
        let free_slots = usize::try_from(self.slots.available()).unwrap_or(usize::MAX);
        let fit = [
            (
                needs.frontends.fits(free_frontends, capacity.frontends),
                FullMap::Frontends,
            ),
            (
                needs.backends.fits(free_backends, capacity.backends),
                FullMap::Backends,
            ),
            (
                needs.source_ranges.fits(free_ranges, capacity.frontends),
                FullMap::SourceRanges,
            ),
            (
                self.tables.fit(&name.service, needs, capacity.slots),
                FullMap::Tables,
            ),
            (
                needs.slots.fits(free_slots, capacity.slots) && self.slots.has_run(needs.slots()),
                FullMap::Slots,
            ),
        ];
        let full = fit.into_iter().find(|(fits, _)| !fits);
        full.map_or(Ok(()), |(_, full)| Err(full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_for_changes_and_half_of_it_for_growth() {
        let size = 80;
        for (change, free, fits) in [
            (Change::New, 15, true),
            (Change::New, 14, false),
            (Change::Growth, 10, true),
            (Change::Growth, 9, false),
            (Change::Replacement, 5, true),
            (Change::Replacement, 4, false),
        ] {
            assert_eq!(change.fits(5, free, size), fits, "{change:?} of {free}");
        }
        assert!(Change::New.fits(0, 0, size), "nothing always fits");
    }

    #[test]
    fn slots_in_tables_are_counted_by_service() {
        let mut tables = Tables::default();
        let [a, b] = ["a", "b"].map(|name| ObjectName::new("n", name));
        tables.replace(&a, 0, 10);
        tables.replace(&b, 0, 5);
        tables.replace(&a, 10, 2);
        assert_eq!((tables.total, tables.by_service[&a]), (7, 2));
        tables.replace(&a, 2, 0);
        tables.replace(&b, 5, 0);
        assert_eq!((tables.total, tables.by_service.len()), (0, 0));
    }
}
