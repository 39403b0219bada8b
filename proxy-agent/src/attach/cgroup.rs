//! Where cgroup2 is mounted.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// The mounts of this process (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Every cgroup has it but the root (cgroups(7)).
pub(super) const NOT_IN_ROOT: &str = "cgroup.type";

/// Why the root of all cgroups was not found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mounts cannot be read.
    #[error("cannot read {MOUNTS}")]
    Mounts(#[source] io::Error),
    /// There is none.
    #[error("cgroup2 is mounted nowhere, neither alone nor beside cgroup v1")]
    NoMount,
    /// Only a part of the tree is to be seen: that of a container.
    #[error(
        "no root of cgroup2 at {0}, only a container's own cgroup: mount the host's \
         /sys/fs/cgroup into the container, at any path"
    )]
    NoRoot(String),
}

/// The root of all cgroups, wherever it is mounted. In a container this is not its own
/// mount, which begins at the container's cgroup.
pub(super) fn root() -> Result<PathBuf, CgroupError> {
    let text = fs::read(MOUNTS).map_err(CgroupError::Mounts)?;
    let mounts: Vec<PathBuf> = text
        .split(|byte| *byte == b'\n')
        .filter_map(cgroup2)
        .collect();
    if mounts.is_empty() {
        return Err(CgroupError::NoMount);
    }
    let is_root = |mount: &&PathBuf| mount.is_dir() && !mount.join(NOT_IN_ROOT).exists();
    mounts
        .iter()
        .find(is_root)
        .cloned()
        .ok_or_else(|| CgroupError::NoRoot(listed(&mounts)))
}

fn listed(mounts: &[PathBuf]) -> String {
    let shown: Vec<_> = mounts
        .iter()
        .map(|mount| mount.display().to_string())
        .collect();
    shown.join(" or ")
}

/// The place of a mount, if it is one of cgroup2.
fn cgroup2(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = fields.nth(4)?;
    // Behind a lone hyphen comes the kind of file system.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2").then(|| Path::new(&unescaped(place)).to_owned())
}

/// A path without the escapes of `/proc`: a backslash and three octal digits.
fn unescaped(text: &[u8]) -> std::ffi::OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..3).and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match code {
            Some(code) if *first == b'\\' => {
                bytes.push(code);
                rest = &behind[3..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_cgroup2_are_found_in_pure_and_hybrid_layouts() {
        for (line, place) in [
            (
                "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate",
                Some("/sys/fs/cgroup"),
            ),
            (
                "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
                Some("/sys/fs/cgroup/unified"),
            ),
            (
                "41 31 0:38 /../.. /host\\040root/cgroup rw shared:9 master:2 - cgroup2 none rw",
                Some("/host root/cgroup"),
            ),
            (
                "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd",
                None,
            ),
            ("31 23 0:28 / /cgroup2 rw,relatime - tmpfs cgroup2 rw", None),
            ("31 23", None),
            ("", None),
        ] {
            assert_eq!(cgroup2(line.as_bytes()), place.map(PathBuf::from), "{line}");
        }
    }

    #[test]
    fn the_root_is_found_on_this_machine() {
        let root = root().unwrap();
        assert!(root.join("cgroup.procs").exists(), "{}", root.display());
        assert!(!root.join(NOT_IN_ROOT).exists());
    }
}
