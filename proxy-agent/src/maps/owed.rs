//! Writes that a map refused, in order, at most one for each element.

use std::collections::{BTreeMap, HashMap};

use crate::plan::{Write, WrittenElement};

/// What is to be written later. All of it can be owed at once: finding an element does not
/// depend on how much there is.
#[derive(Default)]
pub(super) struct Owed {
    writes: BTreeMap<u64, Write>,
    places: HashMap<WrittenElement, u64>,
    next: u64,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Owes a write, in the place of any for the same element.
    pub(super) fn push(&mut self, write: Write) {
        let element = write.element();
        self.forget(&element);
        self.places.insert(element, self.next);
        self.writes.insert(self.next, write);
        self.next += 1;
    }

    /// Owes nothing more for an element.
    pub(super) fn forget(&mut self, element: &WrittenElement) {
        if let Some(place) = self.places.remove(element) {
            self.writes.remove(&place);
        }
    }

    /// All of it, the oldest first; nothing is owed any more.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Write> + use<> {
        std::mem::take(self).writes.into_values()
    }
}
