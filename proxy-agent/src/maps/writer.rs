//! Makes writes, and keeps what a map refused.

use std::time::Instant;

use tracing::error;

use super::{MapError, Maps};
use crate::plan::{FrontendId, Write};

/// Maps, and what they owe.
pub struct Writer<M> {
    maps: M,
    /// Writes that a map refused; until they succeed nothing that they replace may be
    /// used again.
    owed: Vec<Write>,
    owing_since: Option<Instant>,
    /// Frontends that were not written, with the reason.
    failures: Vec<(FrontendId, String)>,
    made: u64,
}

impl<M: Maps> Writer<M> {
    /// A writer that owes nothing.
    pub fn new(maps: M) -> Self {
        Self {
            maps,
            owed: Vec::new(),
            owing_since: None,
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

    /// The maps, without what they owe.
    pub fn into_maps(self) -> M {
        self.maps
    }

    /// Makes a write, or owes it.
    pub fn write(&mut self, write: Write) {
        self.made += 1;
        if let Err(error) = self.maps.write(&write) {
            self.note_failure(&write, error);
            self.owed.push(write);
            self.owing_since.get_or_insert_with(Instant::now);
        }
    }

    /// Makes the writes that are owed. To be called before new ones are made: what is
    /// newer must come after what is older.
    pub fn make_owed(&mut self) {
        for write in std::mem::take(&mut self.owed) {
            self.write(write);
        }
        if self.owed.is_empty() {
            self.owing_since = None;
        }
    }

    /// Whether a map owes a write.
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Since when the maps have been owing a write.
    pub fn owing_since(&self) -> Option<Instant> {
        self.owing_since
    }

    /// Frontends that could not be put in place since the last call, with the reason.
    pub fn take_failures(&mut self) -> Vec<(FrontendId, String)> {
        std::mem::take(&mut self.failures)
    }

    /// How many writes were made, those that failed and their repetitions included.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Tells of a write that a map refused.
    fn note_failure(&mut self, write: &Write, error: MapError) {
        let error = anyhow::Error::from(error);
        match write {
            Write::Frontend { id, .. } | Write::RemoveFrontend { id } => error!(
                frontend = %id.address, port = id.port, protocol = %id.protocol,
                "not programmed, to be tried again: {error:#}"
            ),
            _ => error!("not programmed, to be tried again: {error:#}"),
        }
        if let Write::Frontend { id, .. } = write {
            self.failures.push((*id, format!("{error:#}")));
        }
    }
}
