//! Makes writes, and keeps those that a map refused, to retry them.

use std::time::Instant;

use tracing::error;

use super::pending::PendingWrites;
use super::{MapError, Maps};
use crate::plan::{After, Group, Write, WrittenElement};

/// Maps, and writes that are pending.
pub struct Writer<M> {
    maps: M,
    /// Writes that a map refused, and what comes after them; until they succeed nothing
    /// that they replace may be used again.
    pending: PendingWrites,
    pending_since: Option<Instant>,
    /// Ids of Service ports that were not written, with the reason.
    failures: Vec<(u32, String)>,
    made: u64,
}

impl<M: Maps> Writer<M> {
    /// A writer without pending writes.
    pub fn new(maps: M) -> Self {
        Self {
            maps,
            pending: PendingWrites::default(),
            pending_since: None,
            failures: Vec::new(),
            made: 0,
        }
    }

    /// The maps.
    pub fn maps(&self) -> &M {
        &self.maps
    }

    /// The maps, to be read.
    pub fn maps_mut(&mut self) -> &mut M {
        &mut self.maps
    }

    /// The maps, without what is pending.
    pub fn into_maps(self) -> M {
        self.maps
    }

    /// Makes a write that no plan says more of.
    pub fn write(&mut self, write: Write) {
        let after = After::Groups(vec![write.group()]);
        self.write_after(&after, write);
    }

    /// Makes a write, unless something is pending that has to be written before: then it is
    /// pending as well, as it is when it fails. One that is pending for the same element is
    /// forgotten: it would come after what is newer. What may be lost never waits.
    pub fn write_after(&mut self, after: &After, write: Write) {
        let group = match after {
            After::Groups(groups) => groups.first().copied(),
            After::All => None,
        };
        if !self.pending.delays(after, &write.element()) && self.make(&write, group) {
            self.pending.forget(&write.element());
        } else if !write.may_be_lost() {
            self.pending.push(after, write);
        }
        self.update_pending_since();
    }

    /// Makes a write of a group; whether that worked.
    fn make(&mut self, write: &Write, group: Option<Group>) -> bool {
        self.made += 1;
        let made = self.maps.write(write);
        made.map_err(|error| self.note_failure(write, group, error))
            .is_ok()
    }

    /// Retries pending writes: those of each group up to the first that fails. To be called
    /// before new ones are made, which may be of use only after them.
    pub fn retry_pending(&mut self) {
        for queue in self.pending.queues() {
            while let Some((place, pending)) = self.pending.pop(queue) {
                if !self.make(&pending.write, Some(pending.group)) {
                    self.pending.put(queue, place, pending);
                    break;
                }
            }
            self.pending.remove_if_empty(queue);
        }
        self.update_pending_since();
    }

    fn update_pending_since(&mut self) {
        if self.pending.is_empty() {
            self.pending_since = None;
        } else {
            self.pending_since.get_or_insert_with(Instant::now);
        }
    }

    /// Whether all is written that has to be.
    pub fn is_written(&self, after: &After) -> bool {
        !self.pending.holds_up(after)
    }

    /// Whether a write for an element is pending.
    pub fn is_pending(&self, element: &WrittenElement) -> bool {
        self.pending.has(element)
    }

    /// Whether a write is pending.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Since when writes have been pending.
    pub fn pending_since(&self) -> Option<Instant> {
        self.pending_since
    }

    /// Ids of Service ports that could not be written since the last call, with the reason.
    pub fn take_failures(&mut self) -> Vec<(u32, String)> {
        std::mem::take(&mut self.failures)
    }

    /// How many writes were made, those that failed and their repetitions included.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Logs a write that a map refused.
    fn note_failure(&mut self, write: &Write, group: Option<Group>, error: MapError) {
        let error = anyhow::Error::from(error);
        match write {
            Write::Frontend { id, .. } | Write::RemoveFrontend { id } => error!(
                frontend = %id.address, port = id.port, protocol = %id.protocol,
                "map write failed, will retry: {error:#}"
            ),
            _ => error!("map write failed, will retry: {error:#}"),
        }
        if let Some(Group::Port(service)) = group {
            self.failures.push((service, format!("{error:#}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::IpAddr;

    use proxy_ebpf::layout::Settings;

    use super::*;
    use crate::maps::FakeMaps;

    /// Maps that refuse the next few writes.
    #[derive(Default)]
    struct Refusing {
        maps: FakeMaps,
        refusals: usize,
    }

    impl Maps for Refusing {
        fn write(&mut self, write: &Write) -> Result<(), MapError> {
            if let Some(left) = self.refusals.checked_sub(1) {
                self.refusals = left;
                return Err(MapError::Read {
                    map: "any",
                    source: io::ErrorKind::OutOfMemory.into(),
                });
            }
            self.maps.write(write)
        }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn what_is_pending_does_not_come_after_what_is_newer() {
        let mut writer = Writer::new(Refusing::default());
        let (kept, gone) = (address(1), address(2));
        writer.maps_mut().refusals = 2;
        for address in [kept, gone] {
            writer.write(Write::ClusterIp { address });
        }
        // Once more in vain, and then the plan has changed.
        writer.retry_pending();
        writer.write(Write::RemoveClusterIp { address: gone });
        assert!(writer.has_pending());
        writer.retry_pending();
        assert!(!writer.has_pending());
        let there = &writer.maps().maps.v4.cluster_ips;
        assert_eq!(there.len(), 1, "{there:?}");
    }

    #[test]
    fn a_newer_write_takes_the_place_of_one_that_is_pending() {
        let mut writer = Writer::new(Refusing::default());
        let settings = |nat_ports| {
            Write::SettingsV4(Settings {
                nat_ports,
                ..Settings::default()
            })
        };
        writer.maps_mut().refusals = 2;
        writer.write(settings(1));
        writer.retry_pending();
        writer.write(settings(2));
        assert!(!writer.has_pending());
        writer.retry_pending();
        assert_eq!(writer.maps().maps.v4.settings.nat_ports, 2);
    }
}
