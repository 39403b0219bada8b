//! Where cgroup2 is mounted.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use tracing::info;

/// The mounts of this process (`proc_pid_mountinfo(5)`).
const MOUNTS: &str = "/proc/self/mountinfo";

/// Every cgroup has it but the root (cgroups(7)).
pub(super) const NOT_IN_ROOT: &str = "cgroup.type";

/// The cgroups of this process (cgroups(7)).
const OWN: &str = "/proc/self/cgroup";

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
        "no root of cgroup2 at {0}, only this container's own cgroup: mount the node's \
         /sys/fs/cgroup into the container, at any path"
    )]
    NoRoot(String),
}

/// A mount of cgroup2.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    place: PathBuf,
    /// The cgroup that is mounted, seen from the root of this process's cgroup namespace:
    /// above that there are only names `..`.
    cgroup: PathBuf,
}

/// The root of all cgroups, wherever it is mounted. In a container this is not its own
/// mount, which begins at the container's cgroup. Where the node is a container itself, it is
/// the outermost cgroup that is mounted: the node's.
pub fn root() -> Result<PathBuf, CgroupError> {
    let text = fs::read(MOUNTS).map_err(CgroupError::Mounts)?;
    let mut mounts: Vec<Mount> = text
        .split(|byte| *byte == b'\n')
        .filter_map(cgroup2)
        .collect();
    if mounts.is_empty() {
        return Err(CgroupError::NoMount);
    }
    mounts.retain(|mount| mount.place.is_dir());
    let is_root = |mount: &&Mount| !mount.place.join(NOT_IN_ROOT).exists();
    if let Some(root) = mounts.iter().find(is_root) {
        return Ok(root.place.clone());
    }
    let own = own(&fs::read_to_string(OWN).unwrap_or_default());
    let root =
        root_of_container(&mounts, &own).ok_or_else(|| CgroupError::NoRoot(listed(&mounts)))?;
    info!(cgroup = %root.display(), "no root of cgroup2 is mounted: this node is a container");
    Ok(root)
}

/// The outermost cgroup that is mounted, where this process's own is below it: a container's
/// own mount begins at the container's cgroup, in which its processes are.
fn root_of_container(mounts: &[Mount], own: &Path) -> Option<PathBuf> {
    let levels = |mount: &&Mount| levels_above(&mount.cgroup, own);
    let outermost = mounts.iter().max_by_key(levels)?;
    (levels(&outermost) > Some(0)).then(|| outermost.place.clone())
}

/// How far `cgroup` is above `own`; none where it is not.
fn levels_above(cgroup: &Path, own: &Path) -> Option<usize> {
    let names = |path: &Path| path.components().skip(1).count();
    let is_above_all = cgroup
        .components()
        .skip(1)
        .all(|it| it == Component::ParentDir);
    if is_above_all {
        return Some(names(cgroup) + names(own));
    }
    own.strip_prefix(cgroup)
        .ok()
        .map(|below| below.components().count())
}

/// The cgroup of this process, by the text of [`OWN`].
fn own(text: &str) -> PathBuf {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.unwrap_or("/").into()
}

fn listed(mounts: &[Mount]) -> String {
    let shown: Vec<_> = mounts
        .iter()
        .map(|mount| mount.place.display().to_string())
        .collect();
    shown.join(" or ")
}

/// A mount, if it is one of cgroup2.
fn cgroup2(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let cgroup = fields.nth(3)?;
    let place = fields.next()?;
    // Behind a lone hyphen comes the kind of file system.
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2").then(|| Mount {
        place: unescaped(place).into(),
        cgroup: unescaped(cgroup).into(),
    })
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
            let found = cgroup2(line.as_bytes()).map(|mount| mount.place);
            assert_eq!(found, place.map(PathBuf::from), "{line}");
        }
    }

    fn mount(place: &str, cgroup: &str) -> Mount {
        Mount {
            place: place.into(),
            cgroup: cgroup.into(),
        }
    }

    #[test]
    fn where_the_node_is_a_container_its_root_is_the_outermost_that_is_mounted() {
        let own_mount = mount("/sys/fs/cgroup", "/");
        let of_node = mount("/host/sys/fs/cgroup", "/../../../..");
        let of_slice = mount("/slice", "/../..");
        let of_others = mount("/other", "/../../kubepods/other");
        let in_pod = Path::new("/");
        let mounts = [of_others, own_mount, of_slice, of_node];
        let root = |mounts: &[Mount], own: &Path| root_of_container(mounts, own);
        assert_eq!(root(&mounts, in_pod), Some("/host/sys/fs/cgroup".into()));
        // A container without the node's mount: its own cgroup is no node's.
        assert_eq!(root(&mounts[..2], in_pod), None);
        // A service of the node itself.
        let service = own("1:name=systemd:/x\n0::/system.slice/proxy-agent.service\n");
        assert_eq!(root(&mounts[..2], &service), Some("/sys/fs/cgroup".into()));
        let below = [mount("/below", "/system.slice")];
        assert_eq!(root(&below, &service), Some("/below".into()));
    }

    #[test]
    fn the_root_is_found_on_this_machine() {
        let root = root().unwrap();
        assert!(root.join("cgroup.procs").exists(), "{}", root.display());
        assert!(!root.join(NOT_IN_ROOT).exists());
    }
}
