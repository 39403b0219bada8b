//! What a guest begins with: busybox, and the modules that its root needs.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::kernel::Files;
use crate::command;

/// Some kernels have these built in.
const MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_console",
    "fuse",
    "virtiofs",
    "overlay",
];

/// Writes the file for a kernel; everything in `folder` goes.
pub(super) fn write(files: &Files, busybox: &Path, folder: &Path) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(folder);
    let root = folder.join("initrd");
    for place in ["bin", "modules", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(place))?;
    }
    fs::copy(busybox, root.join("bin/busybox"))?;
    let mut order = Vec::new();
    for module in MODULES {
        for path in with_dependencies(files, module) {
            let name = put_module(&path, &root.join("modules"))?;
            if !order.contains(&name) {
                order.push(name);
            }
        }
    }
    fs::write(root.join("modules/order"), order.join("\n"))?;
    fs::write(root.join("guest.sh"), include_str!("guest.sh"))?;
    let init = root.join("init");
    fs::write(&init, include_str!("init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let archive = folder.join("initrd.cpio");
    let mut cpio = command::outside("sh");
    cpio.args(["-c", "find . | cpio --quiet -o -H newc"]);
    cpio.current_dir(&root).stdout(File::create(&archive)?);
    command::run(&mut cpio)?;
    Ok(archive)
}

/// The files of a module and of what it needs, in the order of loading; none where it is built
/// in.
fn with_dependencies(files: &Files, module: &str) -> Vec<PathBuf> {
    let base = files.modules.parent().and_then(Path::parent);
    let mut modprobe = command::outside("modprobe");
    modprobe.arg("-d").arg(base.unwrap_or(Path::new("/")));
    modprobe.args(["-S", &files.release, "--show-depends", module]);
    let text = command::output(&mut modprobe).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|path| PathBuf::from(path.trim()))
        .collect()
}

/// Puts a module there, not compressed; its name.
fn put_module(path: &Path, folder: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{}: no name", path.display()))?;
    let plain = name.trim_end_matches(".xz");
    let to = folder.join(plain);
    if plain == name {
        fs::copy(path, &to)?;
    } else {
        let mut xz = command::outside("xz");
        xz.arg("-dc").arg(path).stdout(File::create(&to)?);
        let status = xz.stderr(Stdio::null()).status().context("xz")?;
        ensure!(status.success(), "xz -dc {}: {status}", path.display());
    }
    Ok(plain.to_owned())
}
