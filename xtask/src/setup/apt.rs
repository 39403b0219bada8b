//! Debian's packages.

use std::{fs, os::unix::fs::MetadataExt as _};

use anyhow::{Result, bail};

use super::ebpf;
use crate::{command, terminal};

/// Installs packages, if any; where that cannot be done, says what to install.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if command::find("apt-get").is_none() {
        let compiler = if packages.contains(&ebpf::PACKAGES[0]) {
            format!("\n{}", ebpf::OTHER_WAY)
        } else {
            String::new()
        };
        bail!(
            "this system has no apt-get, and something is missing; install what \
             Debian calls {list}, then run this again.{compiler}"
        );
    }
    if !is_root() {
        bail!(
            "something is missing, and installing it needs root; run this, then try again:\n    \
             apt-get install -y --no-install-recommends {list}"
        );
    }
    terminal::note(&format!("apt-get install {list} ..."));
    // A stale list of packages may still do; if it does not, the install says so.
    let _ = command::output(command::outside("apt-get").args(["update", "-qq"]));
    let mut apt = command::outside("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "-y", "-qq", "--no-install-recommends"]);
    command::run(apt.args(packages).stdout(std::process::Stdio::null()))
}

/// Whether a package can be installed here and now.
pub(super) fn offers(package: &str) -> bool {
    let mut apt = command::outside("apt-cache");
    apt.args(["show", "--quiet", package]);
    is_root() && command::find("apt-get").is_some() && command::output(&mut apt).is_some()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}
