//! A folder of YAML and JSON files as the source of objects.
//!
//! The files hold what `kubectl get -o yaml` prints or `kubectl apply` takes:
//! one or several documents, single objects or lists. They may be written in
//! place, renamed into place, or exchanged all at once as in a mounted
//! `ConfigMap`.
//!
//! A mistake in a file leaves everything as it was: the objects that the file
//! had stay until it can be read again or is gone.

pub mod document;
mod events;
pub mod file;
mod folder;
mod notice;
pub mod object;
mod seed;

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;
use tracing::warn;

use crate::model::object::Change;

pub(crate) use events::Events;
use folder::Folder;

/// Why a folder cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It is not there, or may not be read.
    #[error("cannot read the folder {}: {source}", directory.display())]
    Directory {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refuses to watch it.
    #[error("cannot watch the folder {}: {source}", directory.display())]
    Watch {
        /// The folder.
        directory: PathBuf,
        /// What the system said.
        source: notify::Error,
    },
    /// Reading it ended in a panic.
    #[error("reading the folder {} failed: {source}", directory.display())]
    Reader {
        /// The folder.
        directory: PathBuf,
        /// How it ended.
        source: tokio::task::JoinError,
    },
}

/// Sends the objects of `directory` and then what changes in it, until the
/// receiver is dropped. The first batch holds all there is and the news that this
/// is all; later ones hold differences.
pub async fn watch(
    directory: &Path,
    node_name: &str,
    changes: mpsc::Sender<Vec<Change>>,
) -> Result<(), FilesError> {
    fs::read_dir(directory).map_err(|source| FilesError::Directory {
        directory: directory.to_owned(),
        source,
    })?;
    // Before the first look, so that nothing can happen between the two.
    let mut events = Events::new(directory.to_owned()).map_err(|source| FilesError::Watch {
        directory: directory.to_owned(),
        source,
    })?;
    let mut folder = Folder::new(directory.to_owned(), node_name.into());
    let mut is_first = true;
    loop {
        if let Err(error) = events.follow() {
            warn!("cannot watch the folder {}: {error}", directory.display());
        }
        let hints = events.hints();
        // Large files take long enough to parse that others would wait.
        let read = tokio::task::spawn_blocking(move || {
            let scan = folder.scan(&hints);
            (folder, scan)
        });
        let (returned, mut scan) = read.await.map_err(|source| FilesError::Reader {
            directory: directory.to_owned(),
            source,
        })?;
        folder = returned;
        for notice in &scan.notices {
            notice.log();
        }
        if std::mem::take(&mut is_first) {
            scan.changes.extend([
                Change::ServicesListed,
                Change::EndpointSlicesListed,
                Change::NodeListed,
            ]);
        }
        if !scan.changes.is_empty() && changes.send(scan.changes).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = events.next(folder.is_missing()) => {}
            () = changes.closed() => return Ok(()),
        }
    }
}
