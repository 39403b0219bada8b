//! The configuration file on disk: reading it, and reading it again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::sync::mpsc;
use tracing::warn;

use super::kube_proxy::{ConfigError, Parsed, parse};
use crate::source::files::Events;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a mistake in it.
    #[error("mistake in the configuration file: {0}")]
    FieldError(#[from] ConfigError),
}

/// A configuration file that is watched.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Of its folder: a mounted `ConfigMap` changes by the exchange of a link there
    /// (`..data`), and never by a write to a file.
    events: notify::Result<Events>,
    /// What was read last; the kind of error where it could not be.
    last: Result<String, io::ErrorKind>,
}

impl ConfigFile {
    /// Starts to watch the file, and reads it.
    pub fn open(path: &Path) -> Result<(Self, Parsed), FileError> {
        // Before the first look, so that nothing can happen between the two.
        let events = Events::new(folder(path).to_owned());
        let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
        let parsed = parse(&text, path)?;
        let file = Self {
            path: path.to_owned(),
            events,
            last: Ok(text),
        };
        Ok((file, parsed))
    }

    /// Sends what the file holds whenever that has changed, until the receiver is dropped.
    pub async fn follow(mut self, reads: mpsc::Sender<Result<Parsed, FileError>>) {
        let path = self.path.display();
        let mut events = match self.events {
            Ok(events) => events,
            Err(error) => {
                warn!("changes of {path} need a restart, as it cannot be watched: {error}");
                return;
            }
        };
        loop {
            tokio::select! {
                () = events.next(!folder(&self.path).is_dir()) => {}
                () = reads.closed() => return,
            }
            if let Err(error) = events.follow() {
                warn!("cannot watch the folder of {path}: {error}");
            }
            let name = self.path.file_name().unwrap_or(OsStr::new(""));
            if events.hints().open_for_write.contains(name) {
                continue;
            }
            let text = fs::read_to_string(&self.path);
            let now = text.as_ref().map(Clone::clone).map_err(io::Error::kind);
            if now == self.last {
                continue;
            }
            self.last = now;
            let read = text
                .map_err(|error| unreadable(&self.path, error))
                .and_then(|text| Ok(parse(&text, &self.path)?));
            if reads.send(read).await.is_err() {
                return;
            }
        }
    }
}

fn unreadable(file: &Path, source: io::Error) -> FileError {
    FileError::Unreadable {
        file: file.to_owned(),
        source,
    }
}

/// The folder that `file` is in.
fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
