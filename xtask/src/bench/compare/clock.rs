//! How far the comparison is, for who waits for it.

use std::time::{Duration, Instant};

use crate::terminal;

/// The time since the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// Now is the beginning.
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Shows what is done at this moment.
    pub(super) fn progress(&self, what: &str) {
        let seconds = self.elapsed().as_secs();
        terminal::progress(&format!("{:>2}:{:02} {what}", seconds / 60, seconds % 60));
    }
}
