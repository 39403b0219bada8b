//! A thread that keeps the lease: whoever prints may have to wait for its reader.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, spawn};

use anyhow::{Result, anyhow};

use crate::maps::{MapError, RENEWAL, TraceLease};

/// The thread; it ends with this, and the lease with it.
pub(super) struct LeaseKeeper {
    stop: Sender<()>,
    thread: JoinHandle<Result<(), MapError>>,
}

impl LeaseKeeper {
    /// Renews a lease from now on.
    pub(super) fn start(mut lease: TraceLease) -> Self {
        let (stop, stopped) = channel();
        let thread = spawn(move || {
            while stopped.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                lease.renew()?;
            }
            Ok(())
        });
        Self { stop, thread }
    }

    /// Ends the lease.
    pub(super) fn end(self) -> Result<()> {
        drop(self.stop);
        let ended = self.thread.join();
        let ended = ended.map_err(|_| anyhow!("the thread that renews the lease has panicked"))?;
        Ok(ended?)
    }
}
