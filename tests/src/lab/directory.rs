//! A lab's name and its temporary directory, and how to tell what a crashed lab left.
//!
//! All that a lab makes is called `px<pid>-<n>...`: whose process is gone is
//! rubbish, whoever finds it. That also holds after SIGKILL, which no guard sees.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use super::{cgroup, namespace};

/// The directory of one lab, removed on drop; its name prefixes the lab's namespaces.
#[derive(Debug)]
pub struct Directory {
    name: String,
    path: PathBuf,
}

impl Directory {
    /// Sweeps what crashed labs left behind, then makes a directory with a unique name.
    pub fn create() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);

        let root = fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
        ensure!(root, "the lab needs root: it makes network namespaces");
        namespace::sweep();
        cgroup::sweep();
        sweep();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("px{}-{count}", process::id());
        let path = env::temp_dir().join(&name);
        fs::create_dir(&path).with_context(|| format!("{}: mkdir", path.display()))?;
        Ok(Self { name, path })
    }

    /// `px<pid>-<n>`, unique on this machine while this process lives.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the directory is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes everything that this process's labs made, for the way out that runs
/// no destructors. The child processes die with this process.
pub fn abandon() {
    let own = format!("px{}-", process::id());
    namespace::remove_where(|name| name.starts_with(&own));
    cgroup::remove_where(|name| name.starts_with(&own));
    remove_where(|name| name.starts_with(&own));
}

/// True for the names of labs whose process no longer runs.
pub(super) fn is_left_over(name: &str) -> bool {
    let pid = name
        .strip_prefix("px")
        .and_then(|rest| rest.split_once('-'))
        .and_then(|(pid, _)| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

fn sweep() {
    remove_where(is_left_over);
}

fn remove_where(wanted: impl Fn(&str) -> bool) {
    for name in names_in(&env::temp_dir()) {
        if wanted(&name) {
            let _ = fs::remove_dir_all(env::temp_dir().join(name));
        }
    }
}

/// The names in a directory; none if it is not there.
pub(super) fn names_in(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_dead_processes_are_left_over() {
        assert!(is_left_over("px4194305-0-node1")); // beyond the kernel's largest pid
        assert!(!is_left_over(&format!("px{}-0-node1", process::id())));
        assert!(!is_left_over("pxe-boot"));
        assert!(!is_left_over("cni-1234"));
    }
}
