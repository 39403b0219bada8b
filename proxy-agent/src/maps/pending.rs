//! Writes that a map refused, in order, at most one for each element.

use std::collections::{BTreeMap, HashMap};

use crate::plan::{Write, WrittenElement};

/// What is to be retried. All writes may be pending at once: finding an element does not
/// depend on how many there are.
#[derive(Default)]
pub(super) struct PendingWrites {
    writes: BTreeMap<u64, Write>,
    places: HashMap<WrittenElement, u64>,
    next: u64,
}

impl PendingWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Adds a write, in the place of any for the same element.
    pub(super) fn push(&mut self, write: Write) {
        let element = write.element();
        self.forget(&element);
        self.places.insert(element, self.next);
        self.writes.insert(self.next, write);
        self.next += 1;
    }

    /// Forgets the write for an element, if there is one.
    pub(super) fn forget(&mut self, element: &WrittenElement) {
        if let Some(place) = self.places.remove(element) {
            self.writes.remove(&place);
        }
    }

    /// Takes all of them, the oldest first.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Write> + use<> {
        std::mem::take(self).writes.into_values()
    }
}
