//! The addresses that Services have inside the cluster, as the maps hold them: what is sent
//! to another port of one is refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tracing::warn;

use crate::model::object::Family;
use crate::plan::Write;

/// What of them is in the maps.
#[derive(Debug)]
pub(super) struct ClusterIps {
    /// How many a map holds, of one IP version.
    capacity: usize,
    written: BTreeSet<IpAddr>,
    /// How many of each IP version are written.
    used: [usize; 2],
    /// Those for which there is no room.
    unprogrammed: BTreeSet<IpAddr>,
    /// Whether `written` is what adopted maps hold, of which some may be nobody's by now.
    is_unclaimed: bool,
}

impl ClusterIps {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            capacity: capacity as usize,
            written: BTreeSet::new(),
            used: [0; 2],
            unprogrammed: BTreeSet::new(),
            is_unclaimed: false,
        }
    }

    /// Takes over what adopted maps hold, until it is known whose they are.
    pub(super) fn adopt(&mut self, found: BTreeSet<IpAddr>) {
        self.written = found;
        self.used = [0; 2];
        for address in &self.written {
            self.used[Family::of(*address) as usize] += 1;
        }
        self.is_unclaimed = true;
    }

    /// The writes that follow from addresses that were taken and freed; the first time from
    /// all that there are.
    pub(super) fn writes(
        &mut self,
        taken: BTreeSet<IpAddr>,
        mut freed: BTreeSet<IpAddr>,
    ) -> Vec<Write> {
        if std::mem::take(&mut self.is_unclaimed) {
            freed.extend(self.written.difference(&taken));
        }
        let mut writes = Vec::new();
        for address in freed {
            self.unprogrammed.remove(&address);
            if self.written.remove(&address) {
                self.used[Family::of(address) as usize] -= 1;
                writes.push(Write::RemoveClusterIp { address });
            }
        }
        let were_unprogrammed = self.unprogrammed.len();
        let waiting = std::mem::take(&mut self.unprogrammed);
        let coming = waiting.into_iter().chain(taken);
        for address in coming {
            let used = &mut self.used[Family::of(address) as usize];
            if *used >= self.capacity && !self.written.contains(&address) {
                self.unprogrammed.insert(address);
            } else if self.written.insert(address) {
                *used += 1;
                writes.push(Write::ClusterIp { address });
            }
        }
        if self.unprogrammed.len() > were_unprogrammed {
            warn!(
                "the map of ClusterIPs is full, {} are missing: packets to ports that they do not \
                 have are not rejected (raise --map-frontends)",
                self.unprogrammed.len()
            );
        }
        writes
    }

    /// One of them.
    pub(super) fn any(&self, family: Family) -> Option<IpAddr> {
        let mut all = self.written.iter().copied();
        all.find(|address| Family::of(*address) == family)
    }

    /// The writes that bring the maps back to what was written.
    pub(super) fn audit(&self, found: &BTreeSet<IpAddr>) -> Vec<Write> {
        let missing = self.written.difference(found).copied();
        let extra = found.difference(&self.written).copied();
        missing
            .map(|address| Write::ClusterIp { address })
            .chain(extra.map(|address| Write::RemoveClusterIp { address }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        addresses.collect()
    }

    fn written(writes: &[Write]) -> Vec<String> {
        let text = |write: &Write| match write {
            Write::ClusterIp { address } => format!("+{address}"),
            Write::RemoveClusterIp { address } => format!("-{address}"),
            other => panic!("{other:?}"),
        };
        writes.iter().map(text).collect()
    }

    #[test]
    fn of_what_another_agent_has_left_what_is_nobodys_goes() {
        let mut state = ClusterIps::new(10);
        state.adopt(set(&["10.0.0.1", "10.0.0.2"]));
        let writes = state.writes(set(&["10.0.0.2", "10.0.0.3"]), BTreeSet::new());
        assert_eq!(written(&writes), ["-10.0.0.1", "+10.0.0.3"]);
        let writes = state.writes(BTreeSet::new(), set(&["10.0.0.2"]));
        assert_eq!(written(&writes), ["-10.0.0.2"]);
    }

    #[test]
    fn what_does_not_fit_waits_for_room() {
        let mut state = ClusterIps::new(1);
        let writes = state.writes(set(&["10.0.0.1", "10.0.0.2", "fd00::1"]), BTreeSet::new());
        assert_eq!(written(&writes), ["+10.0.0.1", "+fd00::1"]);
        // It is none of what the maps should have.
        assert_eq!(state.audit(&set(&["10.0.0.1", "fd00::1"])), []);
        let writes = state.writes(BTreeSet::new(), set(&["10.0.0.1"]));
        assert_eq!(written(&writes), ["-10.0.0.1", "+10.0.0.2"]);
        // One that went while it waited does not come.
        state.writes(set(&["10.0.0.3"]), BTreeSet::new());
        let writes = state.writes(BTreeSet::new(), set(&["10.0.0.2", "10.0.0.3"]));
        assert_eq!(written(&writes), ["-10.0.0.2"]);
    }
}
