//! The cgroups of Pods, which the kubelet names after their ids.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;
use std::sync::Arc;

use proxy_ebpf::layout::CGROUP_LEVELS;

use super::cgroup::NOT_IN_ROOT;
use crate::maps::Cgroup;

/// The cgroups of these Pods below `root`, as far as they are there.
pub fn pod_cgroups(root: &Path, pods: &BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, Cgroup> {
    let mut found = BTreeMap::new();
    let level = level_of(root);
    walk(root, level, &mut |name, cgroup| {
        let pod = pod_of(name).and_then(|uid| pods.get(uid.as_str()));
        if let Some(pod) = pod {
            found.insert(pod.clone(), cgroup);
        }
        // Below a Pod's there are only its containers'.
        pod_of(name).is_none()
    });
    found
}

/// Calls `enters` with the name of each cgroup below `directory`, and goes on below those
/// for which it returns true. What cannot be read, or vanishes, is left out.
fn walk(directory: &Path, level: u32, enters: &mut impl FnMut(&str, Cgroup) -> bool) {
    let level = level + 1;
    if level >= CGROUP_LEVELS {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_cgroup = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // A cgroup's id is its directory's inode number (on machines of 64 bits).
        let cgroup = Cgroup {
            id: entry.ino(),
            level,
        };
        if is_cgroup && enters(&entry.file_name().to_string_lossy(), cgroup) {
            walk(&entry.path(), level, enters);
        }
    }
}

/// How far a cgroup is below the root of all.
fn level_of(directory: &Path) -> u32 {
    let is_below = |it: &&Path| it.join(NOT_IN_ROOT).exists();
    let levels = directory.ancestors().take_while(is_below).count();
    u32::try_from(levels).unwrap_or(CGROUP_LEVELS)
}

/// The id of the Pod whose cgroup has this name: `pod<id>`, or with the driver for systemd
/// `kubepods-burstable-pod<id>.slice` with underscores in the id.
fn pod_of(name: &str) -> Option<String> {
    if let Some(slice) = name.strip_suffix(".slice") {
        let (_, uid) = slice.rsplit_once("-pod")?;
        return Some(uid.replace('_', "-"));
    }
    name.strip_prefix("pod").map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_names_are_understood() {
        let uid = "0a1b2c3d-1111-2222-3333-444455556666";
        for name in [
            "pod0a1b2c3d-1111-2222-3333-444455556666",
            "kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
            "kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
            "kubelet-kubepods-besteffort-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
        ] {
            assert_eq!(pod_of(name).as_deref(), Some(uid), "{name}");
        }
        for name in [
            "kubepods.slice",
            "kubepods-burstable.slice",
            "burstable",
            "init.scope",
        ] {
            assert_eq!(pod_of(name), None, "{name}");
        }
    }

    #[test]
    fn pods_are_found_at_any_depth_with_their_level() {
        let root = tempfile::tempdir().unwrap();
        let slice = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_1.slice";
        for path in [slice, "kubepods/podb-2/container", "kubepods/podc-3"] {
            fs::create_dir_all(root.path().join(path)).unwrap();
        }
        let wanted = BTreeSet::from(["a-1".into(), "b-2".into(), "d-4".into()]);
        let found = pod_cgroups(root.path(), &wanted);
        let levels: Vec<_> = found.iter().map(|(uid, it)| (&**uid, it.level)).collect();
        assert_eq!(levels, [("a-1", 3), ("b-2", 2)]);
    }
}
