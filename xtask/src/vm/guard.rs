//! A process that lives no longer than what needs it.

use std::process::Child;

/// Ends its process when it goes.
pub(super) struct Guard(pub(super) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
