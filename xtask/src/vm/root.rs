//! The root of a guest with another processor: programs of this machine do not run there.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::debian::Apt;
use crate::{paths, terminal};

/// What guests and tests call.
const PACKAGES: [&str; 14] = [
    "bash",
    "coreutils",
    "curl",
    "ethtool",
    "grep",
    "iproute2",
    "kmod",
    "libc-bin",
    "mount",
    "nftables",
    "procps",
    "python3",
    "sed",
    "util-linux",
];

/// Unpacks the packages into the user's cache, unless they are there.
pub(super) fn prepare(arch: Arch) -> Result<PathBuf> {
    let cache = paths::cache()?;
    let root = cache.join(format!("root-{}", arch.name()));
    if !root.is_dir() {
        terminal::note(&format!(
            "programs for {} from Debian's packages ...",
            arch.name()
        ));
        let apt = Apt::of_this_release(&cache.join("apt-arm64"), arch)?;
        let new = root.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        apt.unpack_with_dependencies(&PACKAGES, &new)?;
        fs::rename(&new, &root)?;
    }
    Ok(root)
}

/// A shell that needs no other file, for the initrd.
pub(super) fn busybox(arch: Arch) -> Result<PathBuf> {
    const PACKAGE: &str = "busybox-static";
    let cache = paths::cache()?;
    let folder = cache.join(format!("{PACKAGE}-{}", arch.name()));
    if !folder.is_dir() {
        let apt = Apt::of_this_release(&cache.join("apt-arm64"), arch)?;
        let new = folder.with_extension("new");
        let _ = fs::remove_dir_all(&new);
        apt.unpack(&[PACKAGE.to_owned()], &new)?;
        fs::rename(&new, &folder)?;
    }
    let places = ["bin/busybox", "usr/bin/busybox"].map(|it| folder.join(it));
    let found = places.into_iter().find(|it| it.is_file());
    anyhow::Context::context(found, "the package busybox-static has no busybox")
}
