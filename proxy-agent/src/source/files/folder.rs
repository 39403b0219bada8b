//! The objects of a folder, and what changed in it since it was last read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use crate::model::object::Change;

use super::events::Hints;
use super::file::{FileRead, Identity, Objects, format};
use super::notice::Notice;
use super::object::Key;

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) changes: Vec<Change>,
    pub(super) notices: Vec<Notice>,
}

/// A folder of objects.
#[derive(Debug)]
pub(super) struct Folder {
    directory: PathBuf,
    node_name: Arc<str>,
    files: BTreeMap<OsString, File>,
    /// The files in which each object is. The first by name counts.
    owners: HashMap<Key, BTreeSet<OsString>>,
    is_missing: bool,
}

/// A file of the folder.
#[derive(Debug, Default)]
struct File {
    identity: Option<Identity>,
    /// Its last good objects.
    objects: Objects,
    /// The fingerprint of what is wrong with it.
    broken: Option<u64>,
}

/// How objects were before a scan.
type Before = BTreeMap<Key, Option<Change>>;

impl Folder {
    pub(super) fn new(directory: PathBuf, node_name: Arc<str>) -> Self {
        Self {
            directory,
            node_name,
            files: BTreeMap::new(),
            owners: HashMap::new(),
            is_missing: false,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        self.is_missing
    }

    /// Reads what changed. A folder that is not there says nothing about its
    /// objects; they stay.
    pub(super) fn scan(&mut self, hints: &Hints) -> Scan {
        let mut scan = Scan::default();
        let present = match self.list() {
            Ok(present) => present,
            Err(error) => {
                if !self.is_missing {
                    let directory = self.directory.clone();
                    scan.notices.push(Notice::Gone { directory, error });
                    self.is_missing = true;
                }
                return scan;
            }
        };
        if std::mem::take(&mut self.is_missing) {
            let directory = self.directory.clone();
            scan.notices.push(Notice::Back { directory });
        }

        let mut before = Before::new();
        let gone: Vec<_> = self
            .files
            .keys()
            .filter(|name| !present.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            self.replace(&name, Objects::new(), &mut before);
            self.files.remove(&name);
        }
        for (name, identity) in present {
            let is_same = self
                .files
                .get(&name)
                .is_some_and(|file| file.identity == Some(identity));
            let is_due = !is_same || hints.modified.contains(&name);
            if is_due && !hints.open_for_write.contains(&name) {
                self.read(&name, &mut before, &mut scan.notices);
            }
        }
        scan.changes = self.differences(before);
        scan
    }

    /// The files that matter.
    fn list(&self) -> io::Result<BTreeMap<OsString, Identity>> {
        let mut present = BTreeMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if format(&name).is_none() {
                continue;
            }
            // Links count as what they lead to; one that leads nowhere, or a
            // file that went meanwhile, is not there. A pipe is no file.
            if let Ok(metadata) = fs::metadata(entry.path())
                && metadata.is_file()
            {
                present.insert(name, Identity::of(&metadata));
            }
        }
        Ok(present)
    }

    fn read(&mut self, name: &OsStr, before: &mut Before, notices: &mut Vec<Notice>) {
        let Some(format) = format(name) else { return };
        let reading = FileRead::new(&self.directory.join(name), format, &self.node_name);
        let display = name.display().to_string();
        let file = self.files.entry(name.to_owned()).or_default();
        file.identity = reading.identity;
        match reading.contents {
            Ok(contents) => {
                if file.broken.take().is_some() {
                    let file = display.clone();
                    notices.push(Notice::Fixed { file });
                }
                notices.extend(contents.ignored.into_iter().map(|(api_version, kind)| {
                    let file = display.clone();
                    Notice::Ignored {
                        file,
                        api_version,
                        kind,
                    }
                }));
                let keys: Vec<_> = contents.objects.keys().cloned().collect();
                self.replace(name, contents.objects, before);
                notices.extend(contents.repeated.into_iter().map(|object| {
                    let (kept, ignored) = (display.clone(), display.clone());
                    Notice::Repeated {
                        object,
                        kept,
                        ignored,
                    }
                }));
                notices.extend(keys.into_iter().filter_map(|key| self.repeated(name, key)));
            }
            Err(error) => {
                if file.broken.replace(reading.fingerprint) != Some(reading.fingerprint) {
                    let file = display;
                    notices.push(Notice::Broken { file, error });
                }
            }
        }
    }

    /// A word about an object of the file `name` that is in another file too.
    fn repeated(&self, name: &OsStr, object: Key) -> Option<Notice> {
        let owners = self.owners.get(&object)?;
        let kept = owners.first()?;
        let ignored = if kept == name {
            owners.iter().nth(1)?
        } else {
            name
        };
        Some(Notice::Repeated {
            object,
            kept: kept.display().to_string(),
            ignored: ignored.display().to_string(),
        })
    }

    /// Gives a file new objects, and notes how those that it can affect were.
    fn replace(&mut self, name: &OsStr, objects: Objects, before: &mut Before) {
        let Some(file) = self.files.get(name) else {
            return;
        };
        let leaving: Vec<_> = file.objects.keys().cloned().collect();
        for key in leaving.iter().chain(objects.keys()) {
            if !before.contains_key(key) {
                before.insert(key.clone(), self.current(key).cloned());
            }
        }
        for key in leaving {
            if let Some(owners) = self.owners.get_mut(&key) {
                owners.remove(name);
                if owners.is_empty() {
                    self.owners.remove(&key);
                }
            }
        }
        for key in objects.keys() {
            let owners = self.owners.entry(key.clone()).or_default();
            owners.insert(name.to_owned());
        }
        if let Some(file) = self.files.get_mut(name) {
            file.objects = objects;
        }
    }

    /// An object as the folder has it; `None` where it has not, or where the
    /// proxy does not select it.
    fn current(&self, key: &Key) -> Option<&Change> {
        let first = self.owners.get(key)?.first()?;
        self.files.get(first)?.objects.get(key)?.as_ref()
    }

    fn differences(&self, before: Before) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, before) in before {
            let now = self.current(&key);
            if now != before.as_ref() {
                changes.push(now.cloned().unwrap_or_else(|| key.gone()));
            }
        }
        changes
    }
}
