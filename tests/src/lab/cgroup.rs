//! A cgroup as a guard.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::directory::{is_left_over, names_in};

/// How long killed processes may take to leave.
const PATIENCE: Duration = Duration::from_secs(2);

/// A cgroup; dropping it ends the processes in it and removes it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Where it is; that one goes later.
    _above: Option<Arc<Cgroup>>,
}

impl Cgroup {
    /// Makes a cgroup below the root of cgroup2, wherever that is mounted.
    pub fn create(name: &str) -> Result<Self> {
        let root = root().context("no mount of cgroup2 in /proc/self/mounts")?;
        Self::make(root.join(name), None)
    }

    /// Makes a cgroup in another one.
    pub fn create_in(above: &Arc<Self>, name: &str) -> Result<Self> {
        Self::make(above.path.join(name), Some(Arc::clone(above)))
    }

    fn make(path: PathBuf, above: Option<Arc<Self>>) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("{}: mkdir", path.display()))?;
        Ok(Self {
            path,
            _above: above,
        })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has a command run inside.
    #[expect(unsafe_code, reason = "std cannot start a process in a cgroup")]
    pub fn admit(&self, command: &mut Command) {
        // Opened here: between fork and exec nothing may be allocated. Where that fails,
        // the command fails.
        let processes = File::options()
            .write(true)
            .open(self.path.join("cgroup.procs"));
        let enter = move || match &processes {
            // The writer itself.
            Ok(processes) => (&mut &*processes).write_all(b"0"),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        // SAFETY: `enter` makes one system call, with what was there before the fork.
        unsafe { command.pre_exec(enter) };
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes the cgroups of labs whose process is gone.
pub(super) fn sweep() {
    remove_where(is_left_over);
}

pub(super) fn remove_where(wanted: impl Fn(&str) -> bool) {
    let Some(root) = root() else {
        return;
    };
    for name in names_in(&root) {
        if wanted(&name) {
            remove(&root.join(name));
        }
    }
}

/// Ends what runs in a cgroup, and removes it, with those in it, as soon as that is gone.
fn remove(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while fs::remove_dir(path).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
        && Instant::now() < deadline
    {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Where cgroup2 is mounted.
fn root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}
