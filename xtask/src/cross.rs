//! Building for another processor, with Debian's cross linker and standard library.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::debian::{self, Apt};
use crate::{command, paths, setup, terminal};

/// What compiles for a processor.
pub(crate) enum Toolchain {
    /// The workspace's own, for this machine.
    Own,
    /// Debian's compiler, with its standard library for arm64 in a folder.
    Foreign(PathBuf),
}

const COMPILER: &str = "aarch64-linux-gnu-gcc";
const LIBRARY: &str = "libstd-rust-web-dev";

impl Toolchain {
    /// Finds what is needed, and installs what is not there.
    pub(crate) fn prepare(arch: Arch) -> Result<Self> {
        if arch == Arch::HOST {
            setup::run()?;
            return Ok(Self::Own);
        }
        ensure!(
            arch == Arch::Arm64,
            "no compiler is known here for {}",
            arch.name()
        );
        setup::run_for_arm64()?;
        let library = standard_library(arch)?;
        terminal::item("ok", &format!("standard library: {}", library.display()));
        Ok(Self::Foreign(library))
    }

    /// The cargo that builds by it; its target has to be named.
    pub(crate) fn cargo(&self) -> Command {
        match self {
            Self::Own => command::cargo(),
            Self::Foreign(_) => {
                let mut cargo = command::outside("cargo");
                cargo.env("RUSTUP_TOOLCHAIN", setup::DISTRIBUTION);
                let target = Arch::Arm64.target().replace('-', "_");
                let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase());
                cargo.env(linker, COMPILER);
                cargo.env(format!("CC_{target}"), COMPILER);
                cargo
            }
        }
    }

    /// Flags of the compiler for a static program.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
        if let Self::Foreign(library) = self {
            flags.push(format!("--sysroot={}", library.display()));
        }
        flags
    }
}

/// A folder that is to the compiler as its own, with the standard library for a processor; in
/// the user's cache. It has to be of the very version of the compiler.
fn standard_library(arch: Arch) -> Result<PathBuf> {
    let mut query = command::outside("dpkg-query");
    query.args(["--show", "--showformat", "${Version}", "rustc-web"]);
    let version = command::output(&mut query)
        .filter(|it| !it.is_empty())
        .context("Debian's package rustc-web is not installed: for arm64 it is what compiles")?;
    let cache = paths::cache()?;
    let folder = cache.join(format!("{LIBRARY}-{}-{version}", arch.name()));
    debian::fill_once(&folder, |new| {
        terminal::note(&format!("{LIBRARY} for {} ...", arch.name()));
        Apt::of_this_release(arch)?.unpack(&[format!("{LIBRARY}={version}")], new)
    })?;
    Ok(folder.join("usr"))
}
