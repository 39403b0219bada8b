//! Reads one file of objects.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::object::Change;

use super::document::{DocumentError, Format, parse};
use super::object::{Key, take};

/// More than this is a mistake rather than a list of Services: some 20,000
/// objects fit.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is too big.
    #[error("has more than the {} MiB that a file may have; split it", MAX_FILE_BYTES >> 20)]
    TooBig,
    /// It is not a list of objects.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// What shows that a file is the same as before without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The objects of a file; `None` for those that the proxy does not select.
pub(super) type Objects = BTreeMap<Key, Option<Change>>;

/// A file that was read.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) objects: Objects,
    /// Objects that were in it before.
    pub(super) repeated: Vec<Key>,
    /// Kinds that were passed over.
    pub(super) ignored: Vec<(String, String)>,
}

/// What came of reading a file.
#[derive(Debug)]
pub(super) struct FileRead {
    /// What was read, as seen before it was; `None` where it could not even be
    /// opened.
    pub(super) identity: Option<Identity>,
    /// The same for the same bytes.
    pub(super) fingerprint: u64,
    pub(super) contents: Result<Contents, FileError>,
}

impl FileRead {
    pub(super) fn new(path: &Path, format: Format, node_name: &str) -> Self {
        let mut reading = Self {
            identity: None,
            fingerprint: 0,
            contents: Ok(Contents::default()),
        };
        reading.contents = reading.read(path, format, node_name);
        if let Err(error @ (FileError::Read(_) | FileError::TooBig)) = &reading.contents {
            reading.fingerprint = fingerprint(&error.to_string());
        }
        reading
    }

    fn read(
        &mut self,
        path: &Path,
        format: Format,
        node_name: &str,
    ) -> Result<Contents, FileError> {
        let file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        self.identity = Some(Identity::of(&metadata));
        let mut bytes = Vec::new();
        // The size can lie, and the file can grow.
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(FileError::TooBig);
        }
        self.fingerprint = fingerprint(&bytes);
        contents(&bytes, format, node_name)
    }
}

fn fingerprint(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn contents(bytes: &[u8], format: Format, node_name: &str) -> Result<Contents, FileError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let lines = good.split(|byte| *byte == b'\n');
        let column = lines.clone().next_back().map_or(0, <[u8]>::len);
        DocumentError {
            line: lines.count() as u64,
            column: column as u64 + 1,
            reason: "this is not UTF-8".to_owned(),
        }
    })?;
    let document = parse(text, format)?;
    let mut contents = Contents {
        ignored: document.ignored.into_iter().collect(),
        ..Contents::default()
    };
    for object in document.objects {
        let Some((key, change)) = take(object, node_name) else {
            continue;
        };
        match contents.objects.entry(key) {
            Entry::Vacant(place) => drop(place.insert(change)),
            Entry::Occupied(place) => contents.repeated.push(place.key().clone()),
        }
    }
    Ok(contents)
}

/// The format of a file by its name; `None` for files of others: what editors
/// and `kubectl` leave behind starts with a dot or ends in something else.
pub(super) fn format(name: &OsStr) -> Option<Format> {
    let name = name.to_str()?;
    if name.starts_with('.') {
        return None;
    }
    match Path::new(name).extension()?.to_str()? {
        "yaml" | "yml" => Some(Format::Yaml),
        "json" => Some(Format::Json),
        _ => None,
    }
}
