//! The configuration files on disk: reading them, and reading them again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::{fs, future, io};

use futures::FutureExt as _;
use futures::future::select_all;
use tokio::sync::mpsc;
use tracing::warn;

use super::kube_proxy::{ConfigError, Parsed, parse_files};
use crate::source::files::Events;

/// Why configuration files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// One cannot be read.
    #[error("cannot read the configuration file {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is a mistake in one.
    #[error("mistake in the configuration file: {0}")]
    FieldError(#[from] ConfigError),
}

/// Configuration files that are watched. One has to be there; of each kind the first document
/// counts.
#[derive(Debug)]
pub struct ConfigFiles(Vec<ConfigFile>);

#[derive(Debug)]
struct ConfigFile {
    path: PathBuf,
    /// Of its folder: a mounted `ConfigMap` changes by the exchange of a link there
    /// (`..data`), and never by a write to a file.
    events: notify::Result<Events>,
    /// What was read last.
    last: io::Result<String>,
}

impl ConfigFiles {
    /// Starts to watch the files, and reads them.
    pub fn open(paths: &[PathBuf]) -> Result<(Self, Parsed), FileError> {
        let files = Self(paths.iter().map(|path| ConfigFile::open(path)).collect());
        let parsed = files.parse()?;
        Ok((files, parsed))
    }

    /// Sends what the files hold whenever that has changed, until the receiver is dropped.
    pub async fn follow(mut self, reads: mpsc::Sender<Result<Parsed, FileError>>) {
        for ConfigFile { path, events, .. } in &self.0 {
            if let Err(error) = events {
                let path = path.display();
                warn!("changes of {path} need a restart, as it cannot be watched: {error}");
            }
        }
        loop {
            tokio::select! {
                () = self.changed() => {}
                () = reads.closed() => return,
            }
            if reads.send(self.parse()).await.is_err() {
                return;
            }
        }
    }

    /// Returns when a file holds something else.
    async fn changed(&mut self) {
        loop {
            select_all(self.0.iter().map(|file| file.event().boxed())).await;
            // All of them: an event of another one may just have been on its way.
            let changes = self.0.iter_mut().map(ConfigFile::look);
            if changes.fold(false, |any, change| any | change) {
                return;
            }
        }
    }

    fn parse(&self) -> Result<Parsed, FileError> {
        let mut texts = Vec::new();
        for ConfigFile { path, last, .. } in &self.0 {
            match last {
                Ok(text) => texts.push((text.as_str(), path.as_path())),
                // Of several files, those that are there count.
                Err(error) if is_missing(error) && self.0.iter().any(|it| it.last.is_ok()) => {}
                Err(error) => {
                    return Err(FileError::Unreadable {
                        file: path.clone(),
                        source: same(error),
                    });
                }
            }
        }
        Ok(parse_files(&texts)?)
    }
}

impl ConfigFile {
    fn open(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            // Before the first look, so that nothing can happen between the two.
            events: Events::new(folder(path).to_owned()),
            last: fs::read_to_string(path),
        }
    }

    /// Returns when it may hold something else. Safe to cancel where [`Self::look`] follows.
    async fn event(&self) {
        match &self.events {
            Ok(events) => events.next(!folder(&self.path).is_dir()).await,
            Err(_) => future::pending().await,
        }
    }

    /// Reads the file again; whether it holds something else.
    fn look(&mut self) -> bool {
        let Ok(events) = &mut self.events else {
            return false;
        };
        if let Err(error) = events.follow() {
            let path = self.path.display();
            warn!("cannot watch the folder of {path}: {error}");
        }
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        if events.hints().open_for_write.contains(name) {
            return false;
        }
        let now = fs::read_to_string(&self.path);
        let is_same = match (&now, &self.last) {
            (Ok(now), Ok(last)) => now == last,
            (Err(now), Err(last)) => now.kind() == last.kind(),
            _ => false,
        };
        self.last = now;
        !is_same
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// An error that says the same.
fn same(error: &io::Error) -> io::Error {
    let number = error.raw_os_error();
    number.map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The folder that `file` is in.
fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
