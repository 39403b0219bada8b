//! When to look at a folder again; the configuration file is watched by it too.
//!
//! inotify reports that something happened; what happened is then read from the
//! folder itself. Two things only the events know: that a file was written
//! though it looks the same, and that someone has written to a file and not yet
//! closed it, so that it may be half of what it will be.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant as Deadline, timeout, timeout_at};

/// Events of one action arrive this close together.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// A folder that is never quiet is read this often.
const MAX_DEBOUNCE: Duration = Duration::from_millis(100);
/// A file that was written and not closed is read after this time.
const OPEN_FILE_TIMEOUT: Duration = Duration::from_secs(1);
/// A folder that is not there is looked for this often.
const MISSING: Duration = Duration::from_millis(200);
/// The folder is read this often without being asked: for a link to it that
/// leads elsewhere now, and for file systems of which inotify knows little.
const RESCAN_INTERVAL: Duration = Duration::from_secs(10);

/// What is known about the folder's files beside what they look like.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// Files to read though they look the same: two writes can be so close
    /// together that they leave one time and one size.
    pub(crate) modified: HashSet<OsString>,
    /// Files to leave alone: someone is in the middle of writing them.
    pub(crate) open_for_write: HashSet<OsString>,
}

/// What the watcher's thread reports.
#[derive(Debug, Default)]
struct Shared {
    wake: Notify,
    files: Mutex<Files>,
}

#[derive(Debug, Default)]
struct Files {
    closed: Vec<OsString>,
    /// Written, and not closed since.
    open: HashMap<OsString, Instant>,
}

/// The events of a folder.
#[derive(Debug)]
pub(crate) struct Events {
    directory: PathBuf,
    shared: Arc<Shared>,
    watcher: RecommendedWatcher,
    /// Device and inode of the folder that is watched.
    watched: Option<(u64, u64)>,
}

impl Events {
    pub(crate) fn new(directory: PathBuf) -> notify::Result<Self> {
        let shared = Arc::new(Shared::default());
        let reported = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event| reported.take(event))?;
        let mut events = Self {
            directory,
            shared,
            watcher,
            watched: None,
        };
        events.follow()?;
        Ok(events)
    }

    /// Sees to it that it is the folder of this name that is watched: it can
    /// have been removed, made anew, or exchanged for another.
    pub(crate) fn follow(&mut self) -> notify::Result<()> {
        let metadata = fs::metadata(&self.directory).ok();
        let now = metadata.map(|metadata| (metadata.dev(), metadata.ino()));
        if now == self.watched {
            return Ok(());
        }
        if self.watched.take().is_some() {
            // It fails where the folder's end has ended the watch as well.
            drop(self.watcher.unwatch(&self.directory));
        }
        if now.is_some() {
            self.watcher
                .watch(&self.directory, RecursiveMode::NonRecursive)?;
            self.watched = now;
        }
        Ok(())
    }

    /// What is known about files that should be read now.
    pub(crate) fn hints(&self) -> Hints {
        let mut files = self.shared.files();
        files
            .open
            .retain(|_, since| since.elapsed() < OPEN_FILE_TIMEOUT);
        Hints {
            modified: files.closed.drain(..).collect(),
            open_for_write: files.open.keys().cloned().collect(),
        }
    }

    /// Waits until there is a reason to look, and for the end of what is going
    /// on.
    pub(crate) async fn next(&self, is_missing: bool) {
        let at_most = if is_missing {
            MISSING
        } else {
            self.shared.files().first_due().unwrap_or(RESCAN_INTERVAL)
        };
        let wake = &self.shared.wake;
        if timeout(at_most, wake.notified()).await.is_err() {
            return;
        }
        let end = Deadline::now() + MAX_DEBOUNCE;
        while Deadline::now() < end {
            let quiet = Deadline::now() + DEBOUNCE;
            if timeout_at(quiet.min(end), wake.notified()).await.is_err() {
                return;
            }
        }
    }
}

impl Files {
    /// When the first of the open files is read nevertheless.
    fn first_due(&self) -> Option<Duration> {
        let ages = self.open.values().map(Instant::elapsed);
        ages.max().map(|age| OPEN_FILE_TIMEOUT.saturating_sub(age))
    }
}

impl Shared {
    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: notify::Result<Event>) {
        if let Ok(event) = event {
            let names = event.paths.iter().filter_map(|path| path.file_name());
            let mut files = self.files();
            match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                    for name in names {
                        files.open.remove(name);
                        files.closed.push(name.to_owned());
                    }
                }
                // Our own reading would wake us.
                EventKind::Access(_) => return,
                EventKind::Modify(ModifyKind::Data(_)) => {
                    for name in names {
                        files.open.insert(name.to_owned(), Instant::now());
                    }
                }
                EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                    for name in names {
                        files.open.remove(name);
                    }
                }
                _ => {}
            }
        }
        self.wake.notify_one();
    }
}
