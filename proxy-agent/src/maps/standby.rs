//! The mark of an agent that waits for another one to end: that one goes on answering health
//! checks until the mark is gone.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::pins::links_folder;

/// The mark, for as long as this lives. Several agents may wait.
#[derive(Debug)]
pub struct Standby(#[expect(dead_code, reason = "held until it is dropped")] Flock<File>);

impl Standby {
    /// Leaves the mark beside the pins of the agent that runs.
    ///
    /// # Errors
    ///
    /// There are no pins, or they cannot be opened.
    pub fn announce(bpffs: &Path) -> io::Result<Self> {
        let folder = File::open(links_folder(bpffs))?;
        Flock::lock(folder, FlockArg::LockSharedNonblock)
            .map(Self)
            .map_err(|(_, error)| error.into())
    }

    /// Whether an agent waits for this one to end.
    pub fn is_announced(bpffs: &Path) -> bool {
        let Ok(folder) = File::open(links_folder(bpffs)) else {
            return false;
        };
        let lock = Flock::lock(folder, FlockArg::LockExclusiveNonblock);
        matches!(lock, Err((_, Errno::EWOULDBLOCK)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_lasts_until_the_last_one_that_waits_is_done() {
        let bpffs = tempfile::tempdir().unwrap();
        assert!(!Standby::is_announced(bpffs.path()));
        Standby::announce(bpffs.path()).unwrap_err();

        std::fs::create_dir_all(links_folder(bpffs.path())).unwrap();
        assert!(!Standby::is_announced(bpffs.path()));
        let first = Standby::announce(bpffs.path()).unwrap();
        let second = Standby::announce(bpffs.path()).unwrap();
        drop(first);
        assert!(Standby::is_announced(bpffs.path()));
        drop(second);
        assert!(!Standby::is_announced(bpffs.path()));
    }
}
