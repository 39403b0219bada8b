//! Writes that wait: those that a map refused, and what comes after them.

use std::collections::{BTreeMap, HashMap};

use crate::plan::{After, Group, Write, WrittenElement};

/// The number of a queue.
pub(super) type QueueId = u64;

/// The queue of what waits for all others.
const REST: QueueId = QueueId::MAX;

/// Queues of writes, each of which waits for its first one: at most one write for each
/// element. All writes may be pending at once: finding an element does not depend on how
/// many there are.
#[derive(Default)]
pub(super) struct PendingWrites {
    /// By place, which tells the order of all.
    queues: BTreeMap<QueueId, BTreeMap<u64, PendingWrite>>,
    /// The queue in which the writes of a group wait.
    groups: HashMap<Group, QueueId>,
    places: HashMap<WrittenElement, (QueueId, u64)>,
    next: u64,
}

/// A write that waits, and its group.
pub(super) struct PendingWrite {
    pub(super) group: Group,
    pub(super) write: Write,
}

impl PendingWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The queues, that of what waits for all others last.
    pub(super) fn queues(&self) -> Vec<QueueId> {
        self.queues.keys().copied().collect()
    }

    /// Whether a write for an element waits.
    pub(super) fn has(&self, element: &WrittenElement) -> bool {
        self.places.contains_key(element)
    }

    /// Whether something waits that has to be written before.
    pub(super) fn holds_up(&self, after: &After) -> bool {
        match after {
            After::All => !self.is_empty(),
            After::Groups(groups) => groups.iter().any(|it| self.groups.contains_key(it)),
        }
    }

    /// Whether a write for an element has to wait: what waits is more than an older one for
    /// the same element.
    pub(super) fn delays(&self, after: &After, element: &WrittenElement) -> bool {
        let place = self.places.get(element);
        let is_older = |queue: &QueueId| {
            place.is_some_and(|(of, _)| of == queue)
                && self.queues.get(queue).is_some_and(|it| it.len() == 1)
        };
        match after {
            After::All => !self.queues.keys().all(is_older),
            After::Groups(groups) => {
                let mut waiting = groups.iter().filter_map(|it| self.groups.get(it));
                !waiting.all(is_older)
            }
        }
    }

    /// Adds a write behind what it has to come after. It takes the place of any for the
    /// same element: what that one had to wait for, it has to wait for as well.
    pub(super) fn push(&mut self, after: &After, write: Write) {
        let place = self.next;
        self.next += 1;
        let (queue, group) = match after {
            After::All => (REST, write.group()),
            After::Groups(groups) => {
                let waiting = groups.iter().filter_map(|it| self.groups.get(it));
                let waiting: Vec<_> = waiting.copied().collect();
                let queue = waiting.into_iter().reduce(|a, b| self.join(a, b));
                let group = groups.first().copied();
                let group = group.unwrap_or_else(|| write.group());
                (queue.unwrap_or(place), group)
            }
        };
        let element = write.element();
        let known = self.places.get(&element).copied();
        let queue = known.map_or(queue, |(known, _)| self.join(known, queue));
        if let Some((_, place)) = known
            && let Write::Backend { .. } = write
            && let Some(pending) = self.pending(queue, place)
            && let Write::Backend { .. } = pending.write
        {
            // Slots before it may lead to it, so that it stays where it is.
            pending.write = write;
            return;
        }
        self.take(&element);
        if let Write::Slots { .. } = write {
            self.forget_slots(queue, group);
        }
        self.put(queue, place, PendingWrite { group, write });
    }

    /// Forgets the write for an element, if there is one.
    pub(super) fn forget(&mut self, element: &WrittenElement) {
        if let Some((queue, _)) = self.take(element) {
            self.remove_if_empty(queue);
        }
    }

    /// Takes the first write of a queue, with its place.
    pub(super) fn pop(&mut self, queue: QueueId) -> Option<(u64, PendingWrite)> {
        if queue == REST && self.queues.len() > 1 {
            return None;
        }
        let (place, pending) = self.queues.get_mut(&queue)?.pop_first()?;
        self.places.remove(&pending.write.element());
        Some((place, pending))
    }

    /// Puts back what was taken from a place.
    pub(super) fn put(&mut self, queue: QueueId, place: u64, pending: PendingWrite) {
        self.places.insert(pending.write.element(), (queue, place));
        if queue != REST {
            self.groups.insert(pending.group, queue);
        }
        self.queues.entry(queue).or_default().insert(place, pending);
    }

    /// Ends a queue in which nothing waits any more.
    pub(super) fn remove_if_empty(&mut self, queue: QueueId) {
        if self.queues.get(&queue).is_some_and(BTreeMap::is_empty) {
            self.queues.remove(&queue);
            self.groups.retain(|_, of| *of != queue);
        }
    }

    fn take(&mut self, element: &WrittenElement) -> Option<(QueueId, PendingWrite)> {
        let (queue, place) = self.places.remove(element)?;
        let pending = self.queues.get_mut(&queue)?.remove(&place)?;
        Some((queue, pending))
    }

    fn pending(&mut self, queue: QueueId, place: u64) -> Option<&mut PendingWrite> {
        self.queues.get_mut(&queue)?.get_mut(&place)
    }

    /// Makes one queue of two.
    fn join(&mut self, a: QueueId, b: QueueId) -> QueueId {
        if a == b {
            return a;
        }
        let (into, from) = (a.max(b), a.min(b));
        for group in self.groups.values_mut().filter(|queue| **queue == from) {
            *group = into;
        }
        for (place, pending) in self.queues.remove(&from).unwrap_or_default() {
            self.put(into, place, pending);
        }
        into
    }

    /// Forgets the slots of a Service port's state that is skipped: its frontends get the
    /// next one.
    fn forget_slots(&mut self, queue: QueueId, group: Group) {
        let writes = self.queues.get(&queue).into_iter().flatten();
        let skipped = writes.filter(|(_, pending)| {
            pending.group == group && matches!(pending.write, Write::Slots { .. })
        });
        let skipped: Vec<_> = skipped.map(|(_, it)| it.write.element()).collect();
        for element in skipped {
            self.take(&element);
        }
    }
}
