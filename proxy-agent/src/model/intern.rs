//! Shares equal values, so that a namespace's name is in memory once and not
//! once for each of its Services.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Values that are in use, each once.
#[derive(Debug)]
pub(super) struct Interner<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// The size at which values that nobody uses any more are thrown out.
    sweep_at: usize,
}

/// A sweep at a smaller size would save nothing.
const MIN_SWEEP: usize = 1024;

impl<T: ?Sized + Hash + Eq> Interner<T> {
    pub(super) fn new() -> Self {
        Self {
            known: HashSet::new(),
            sweep_at: MIN_SWEEP,
        }
    }

    /// The shared copy of `value`.
    pub(super) fn intern(&mut self, value: Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(&*value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            // Doubling keeps the cost of sweeping constant for each new value.
            self.sweep_at = (self.known.len() * 2).max(MIN_SWEEP);
        }
        self.known.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_their_memory() {
        let mut interner = Interner::<str>::new();
        let first = interner.intern("http".into());
        let second = interner.intern("http".into());
        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn values_that_nobody_uses_are_forgotten_and_the_others_kept() {
        let mut interner = Interner::<str>::new();
        let kept = interner.intern("kept".into());
        for number in 0..10 * MIN_SWEEP {
            interner.intern(number.to_string().into());
        }
        assert!(interner.known.len() <= MIN_SWEEP);
        assert!(Arc::ptr_eq(&kept, &interner.intern("kept".into())));
    }
}
