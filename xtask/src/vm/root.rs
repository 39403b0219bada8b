//! The root of a guest with another processor: programs of this machine do not run there.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::arch::Arch;
use crate::debian::{self, Apt};
use crate::{paths, terminal};

/// What guests and tests call.
const PACKAGES: [&str; 15] = [
    "bash",
    "busybox-static",
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
    let root = paths::cache()?.join(format!("root-{}", arch.name()));
    debian::fill_once(&root, |new| {
        terminal::note(&format!(
            "programs for {} from Debian's packages ...",
            arch.name()
        ));
        Apt::of_this_release(arch)?.unpack_with_dependencies(&PACKAGES, new)
    })?;
    Ok(root)
}

/// A shell that needs no other file, for the initrd.
pub(super) fn busybox(arch: Arch) -> Result<PathBuf> {
    const PACKAGE: &str = "busybox-static";
    let folder = paths::cache()?.join(format!("{PACKAGE}-{}", arch.name()));
    debian::fill_once(&folder, |new| {
        Apt::of_this_release(arch)?.unpack(&[PACKAGE.to_owned()], new)
    })?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|it| folder.join(it));
    let found = places.into_iter().find(|it| it.is_file());
    found.context("the package busybox-static has no busybox")
}
