//! TCP connections to endpoints that are gone, which are reset after a while, where that is
//! wanted.
//!
//! A backend whose life has ended rests for that time: its index is used again only where no
//! other is free. Then a step of its generation signals that to the programs.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::planner::{Planner, at};
use super::pool::{Backends, QuarantinedBackend};
use super::write::Write;
use crate::model::object::Family;

impl Planner {
    /// Takes back the index of a backend whose life has ended, when nobody looks at it any
    /// more.
    pub(super) fn retire_index(&mut self, endpoint: SocketAddr, index: u32, now: Instant) {
        let pool = &mut self.backends[at(Family::of(endpoint.ip()))];
        if self.reset_after.is_none() {
            return pool.release(index);
        }
        pool.add_to_quarantine(QuarantinedBackend {
            since: now,
            index,
            endpoint,
        });
    }

    /// When [`Self::reset_gone`] has something to do next.
    pub fn next_reset(&self) -> Option<Instant> {
        let since = self.backends.iter().filter_map(Backends::oldest_quarantine);
        since.min()?.checked_add(self.reset_after?)
    }

    /// Has connections reset to endpoints that have been gone for long enough. An endpoint
    /// that serves again, for whatever Service port, is not gone; it is looked at later.
    pub fn reset_gone(&mut self, now: Instant, mut write: impl FnMut(Write)) {
        let Some(then) = self.reset_after.and_then(|after| now.checked_sub(after)) else {
            return;
        };
        for family in Family::ALL {
            let rested = self.backends[at(family)].take_expired(then);
            if rested.is_empty() {
                continue;
            }
            let serving = self.serving_among(&rested);
            let pool = &mut self.backends[at(family)];
            for resting in rested {
                if serving.contains(&resting.endpoint) {
                    pool.add_to_quarantine(QuarantinedBackend {
                        since: now,
                        ..resting
                    });
                    continue;
                }
                let index = resting.index;
                write(Write::EndBackend {
                    family,
                    index,
                    generation: pool.reset(index),
                });
            }
        }
    }

    /// The endpoints among these that serve.
    fn serving_among(&self, rested: &[QuarantinedBackend]) -> HashSet<SocketAddr> {
        let asked: HashSet<SocketAddr> = rested.iter().map(|it| it.endpoint).collect();
        let living = self.ports.values().flat_map(|port| &port.backends);
        let living = living.map(|(endpoint, _)| endpoint.socket());
        living.filter(|endpoint| asked.contains(endpoint)).collect()
    }
}
