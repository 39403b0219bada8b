//! What the people who run the agent should know about a folder.

use std::io;
use std::path::PathBuf;

use tracing::{debug, info, warn};

use super::file::FileError;
use super::object::Key;

/// Something to log.
#[derive(Debug)]
pub(super) enum Notice {
    /// A file cannot be used.
    Broken { file: String, error: FileError },
    /// It can be used again.
    Fixed { file: String },
    /// Objects of a kind that the proxy has no use for.
    Ignored {
        file: String,
        api_version: String,
        kind: String,
    },
    /// An object is there twice.
    Repeated {
        object: Key,
        kept: String,
        ignored: String,
    },
    /// The folder is not there any more.
    Gone {
        directory: PathBuf,
        error: io::Error,
    },
    /// The folder is there again.
    Back { directory: PathBuf },
}

impl Notice {
    pub(super) fn log(&self) {
        match self {
            Self::Broken { file, error } => {
                warn!("{file}: {error}; keeping its previous objects");
            }
            Self::Fixed { file } => info!("{file}: valid again"),
            Self::Ignored {
                file,
                api_version,
                kind,
            } => debug!("{file}: objects of kind {kind} ({api_version}) are ignored"),
            Self::Repeated {
                object,
                kept,
                ignored,
            } => warn!("{object} is in {kept} and again in {ignored}; that in {kept} counts"),
            Self::Gone { directory, error } => warn!(
                "cannot read the folder {}: {error}; keeping its objects",
                directory.display()
            ),
            Self::Back { directory } => {
                info!("the folder {} can be read again", directory.display());
            }
        }
    }
}
