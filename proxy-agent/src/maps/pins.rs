//! What outlives the agent: its folder in a BPF file system.
//!
//! ```text
//! <bpffs>/proxy-agent/maps-<layout version>/<map>, attached/
//! <bpffs>/proxy-agent/links/<device's index>-<direction>, socket-<cgroup's id>-<hook>
//! ```
//!
//! A folder of maps is complete from the moment that it has its name.

use std::fs::{self, File};
use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use proxy_ebpf::layout::VERSION;
use tracing::warn;

use super::pinned_link::detach;
use super::{LastingMaps, MapError};

/// The agent's folder in a BPF file system.
const FOLDER: &str = "proxy-agent";
/// Folders of maps begin with this.
const MAPS: &str = "maps-";
/// The folder of links.
const LINKS: &str = "links";
/// A folder beside the maps that programs at devices use or have used.
const ATTACHED: &str = "attached";
/// A folder of maps before it is complete.
const UNFINISHED: &str = "unfinished";

/// Where links are.
pub(super) fn links_folder(bpffs: &Path) -> PathBuf {
    bpffs.join(FOLDER).join(LINKS)
}

/// The agent's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no BPF file system.
    #[error("there is no BPF file system at {0} (mount one: `proxy-agent mount`)")]
    NoFileSystem(PathBuf),
    /// Another agent uses it.
    #[error("another agent runs with the pins in {0}")]
    InUse(PathBuf),
    /// The kernel refuses.
    #[error("cannot use {path} (has the process CAP_BPF, and may it write there?)")]
    File {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The agent's folder, this process's own for as long as this lives.
#[derive(Debug)]
pub struct Pins {
    bpffs: PathBuf,
    folder: PathBuf,
    /// That of the file system: the folder may be removed while the agent runs.
    lock: Lock,
    /// That of the folder, which older agents look at.
    _folder_lock: Flock<File>,
}

/// The lock of the one agent that uses a BPF file system.
#[derive(Debug)]
struct Lock {
    /// The device number of the file system: another one may be mounted in its place.
    device: u64,
    _lock: Flock<File>,
}

impl Lock {
    fn take(bpffs: &Path) -> Result<Self, PinError> {
        let root = File::open(bpffs).map_err(failed(bpffs))?;
        let device = root.metadata().map_err(failed(bpffs))?.st_dev();
        let lock = lock(root, bpffs)?;
        Ok(Self {
            device,
            _lock: lock,
        })
    }

    fn is_of(&self, bpffs: &Path) -> bool {
        fs::metadata(bpffs).is_ok_and(|it| it.st_dev() == self.device)
    }
}

fn lock(file: File, path: &Path) -> Result<Flock<File>, PinError> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => PinError::InUse(path.to_owned()),
        error => failed(path)(error.into()),
    })
}

impl Pins {
    /// Takes the agent's folder in the BPF file system at `bpffs`, which is made if need
    /// be.
    pub fn open(bpffs: &Path) -> Result<Self, PinError> {
        if !is_bpffs(bpffs).unwrap_or(false) {
            return Err(PinError::NoFileSystem(bpffs.to_owned()));
        }
        let folder = bpffs.join(FOLDER);
        let bpffs_lock = Lock::take(bpffs)?;
        let links = links_folder(bpffs);
        let file = fs::create_dir_all(&links).and_then(|()| File::open(&folder));
        let folder_lock = lock(file.map_err(failed(&folder))?, &folder)?;
        Ok(Self {
            bpffs: bpffs.to_owned(),
            folder,
            lock: bpffs_lock,
            _folder_lock: folder_lock,
        })
    }

    /// Makes anew what somebody has removed while the agent runs: the folder, and the pins
    /// of these maps. Whether there was something to make.
    ///
    /// # Errors
    ///
    /// There is no BPF file system any more, another agent uses the one that there is now,
    /// or the kernel refuses.
    pub fn restore(&mut self, maps: &LastingMaps) -> Result<bool, MapError> {
        if !is_bpffs(&self.bpffs).unwrap_or(false) {
            return Err(PinError::NoFileSystem(self.bpffs.clone()).into());
        }
        if !self.lock.is_of(&self.bpffs) {
            self.lock = Lock::take(&self.bpffs)?;
        }
        let links = self.folder.join(LINKS);
        if links.is_dir() && maps.are_in(&self.maps()) {
            return Ok(false);
        }
        fs::create_dir_all(&links).map_err(failed(&links))?;
        self.replace_maps(|folder| maps.pin(folder))?;
        Ok(true)
    }

    /// Where the maps of this layout are, once they are complete.
    pub(super) fn maps(&self) -> PathBuf {
        self.folder.join(format!("{MAPS}{VERSION}"))
    }

    /// Where the maps of another layout are, if an agent of that has left them behind.
    pub(super) fn maps_of(&self, version: u32) -> Option<PathBuf> {
        let folder = self.folder.join(format!("{MAPS}{version}"));
        folder.exists().then_some(folder)
    }

    /// Whether programs with the maps of this layout were ever attached to devices. Older
    /// agents have left no mark of that.
    pub fn were_attached(&self) -> bool {
        self.maps().join(ATTACHED).is_dir()
    }

    /// Marks that programs with the maps are attached.
    pub fn mark_attached(&self) -> Result<(), PinError> {
        let mark = self.maps().join(ATTACHED);
        fs::create_dir_all(&mark).map_err(failed(&mark))
    }

    /// Where a link is.
    pub fn link(&self, name: &str) -> PathBuf {
        self.folder.join(LINKS).join(name)
    }

    /// The names of the links that there are.
    pub fn links(&self) -> Result<Vec<String>, PinError> {
        let links = self.folder.join(LINKS);
        let names = fs::read_dir(&links).map_err(failed(&links))?;
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.collect())
    }

    /// Makes a folder of maps: `fill` pins them into it, and then it takes the place of
    /// the one that there was.
    pub(super) fn replace_maps<E: From<PinError>>(
        &self,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let unfinished = self.folder.join(UNFINISHED);
        remove(&unfinished)?;
        fs::create_dir(&unfinished).map_err(failed(&unfinished))?;
        fill(&unfinished)?;
        let maps = self.maps();
        // A crash in between costs the flows, not the links with what they serve.
        remove(&maps)?;
        fs::rename(&unfinished, &maps).map_err(failed(&maps))?;
        Ok(())
    }

    /// Removes the maps of other layouts. The programs that use them keep them for as
    /// long as they are attached.
    pub fn remove_other_maps(&self) -> Result<(), PinError> {
        let own = self.maps();
        for entry in fs::read_dir(&self.folder).map_err(failed(&self.folder))? {
            let path = entry.map_err(failed(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if path != own && name.is_some_and(|name| name.starts_with(MAPS)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Removes everything: what is attached by a pinned link is detached.
    pub fn remove_all(self) -> Result<(), PinError> {
        for name in self.links()? {
            let path = self.link(&name);
            if let Err(error) = detach(&path) {
                warn!(pin = %path.display(), "cannot detach before removing the pin: {error}");
            }
        }
        remove(&self.folder)
    }
}

/// The layout versions of which maps are pinned in the BPF file system at `bpffs`, with their
/// folders.
pub(super) fn pinned_versions(bpffs: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(bpffs.join(FOLDER))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let version = name.and_then(|name| name.strip_prefix(MAPS)?.parse().ok());
        versions.extend(version.map(|version| (version, path)));
    }
    versions.sort_unstable();
    Ok(versions)
}

/// Whether `path` is in a BPF file system.
pub fn is_bpffs(path: &Path) -> io::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

fn remove(folder: &Path) -> Result<(), PinError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(folder)(error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PinError {
    let path = path.to_owned();
    move |source| PinError::File { path, source }
}
