//! A compiler for the eBPF object.
//!
//! Building for a BPF target needs a `core` for it and bpf-linker, whose LLVM
//! must be at least as new as the compiler's. Two ways lead there, see [`Way`].
//! Which one was taken is left in `target/ebpf-tools` for proxy-agent's build
//! script: the toolchain's name in `toolchain`, the linker in `bin`, its LLVM in `lib`.

use std::{
    fs,
    os::unix::fs as unix,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{command, paths, terminal};

/// The name under which rustup gets to know the distribution's compiler.
pub(crate) const LINKED: &str = "proxy-agent-ebpf";
/// The distribution's compiler.
const RUSTC: &str = "/usr/bin/rustc";
/// Its packages: the compiler, cargo, and `core` for the BPF targets.
pub(super) const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];
/// What to do where these packages are not to be had.
pub(super) const OTHER_WAY: &str = "To build the eBPF object, this will do as well:
    rustup toolchain install nightly --component rust-src
    cargo install bpf-linker";
/// The oldest compiler that works the second way.
const OLDEST: (u32, u32) = (1, 96);
/// The linker for the second way: it uses the LLVM of whichever rustc calls it.
const LINKER: &str = "0.10.3";

/// How the eBPF object can be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// rustup's nightly builds `core` from its sources; bpf-linker is the user's.
    Nightly,
    /// A distribution's compiler, with a `core` that was built before.
    Distribution,
}

impl Way {
    /// The first way if all of it is there, else the second.
    pub(super) fn find() -> Self {
        let mut rustup = command::outside("rustup");
        rustup.args(["component", "list", "--toolchain", "nightly", "--installed"]);
        let components = command::output(&mut rustup).unwrap_or_default();
        let has_sources = components.lines().any(|line| line.starts_with("rust-src"));
        if has_sources && command::find("bpf-linker").is_some() {
            Self::Nightly
        } else {
            Self::Distribution
        }
    }

    /// Debian's packages that this way still needs.
    pub(super) fn missing_packages(self) -> &'static [&'static str] {
        match self {
            Self::Distribution if !has_core(RUSTC, &[]) => &PACKAGES,
            _ => &[],
        }
    }

    /// Makes the way ready, and leaves word of it for the build script.
    pub(super) fn prepare(self) -> Result<()> {
        let (toolchain, linker) = match self {
            Self::Nightly => {
                let linker = command::find("bpf-linker").context("bpf-linker: not found")?;
                terminal::item("ok", "eBPF toolchain: nightly with rust-src");
                terminal::item("ok", &format!("bpf-linker: {}", linker.display()));
                ("nightly", linker)
            }
            Self::Distribution => {
                link_toolchain()?;
                (LINKED, install_linker()?)
            }
        };
        let tools = paths::ebpf_tools();
        for folder in ["bin", "lib"] {
            fs::create_dir_all(tools.join(folder))
                .with_context(|| format!("{}: mkdir", tools.display()))?;
        }
        if self == Self::Distribution {
            link_if_different(&tools.join("lib/libLLVM.so"), &compiler_llvm()?)?;
        }
        link_if_different(&tools.join("bin/bpf-linker"), &linker)?;
        write_if_different(&tools.join("toolchain"), &format!("{toolchain}\n"))
    }
}

/// The LLVM of the distribution's compiler, which bpf-linker has to use too.
fn compiler_llvm() -> Result<PathBuf> {
    let version = command::output(command::outside(RUSTC).arg("-vV")).unwrap_or_default();
    let name = llvm_library(&version).with_context(|| format!("{RUSTC} does not name its LLVM"))?;
    let libraries =
        command::output(command::outside("/sbin/ldconfig").arg("-p")).unwrap_or_default();
    libraries
        .lines()
        .filter_map(|line| line.split_once(" => "))
        .find(|(library, _)| library.trim().starts_with(&name))
        .map(|(_, path)| PathBuf::from(path))
        .with_context(|| {
            format!("{name}, the LLVM of {RUSTC}, is not among the system's libraries")
        })
}

/// The file name of the LLVM that `rustc -vV` tells of.
fn llvm_library(version: &str) -> Option<String> {
    let version = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    let mut numbers = version.split('.');
    Some(format!(
        "libLLVM.so.{}.{} ",
        numbers.next()?,
        numbers.next()?
    ))
}

/// Tells rustup of the distribution's compiler, unless it knows.
fn link_toolchain() -> Result<()> {
    let version = command::output(command::outside(RUSTC).arg("--version")).unwrap_or_default();
    ensure!(
        version_of(&version).is_some_and(|it| it >= OLDEST) && has_core(RUSTC, &[]),
        "{RUSTC} (\"{version}\") cannot build for BPF: it must be {}.{} or later, with \
         a core for bpfel-unknown-none.\n{OTHER_WAY}",
        OLDEST.0,
        OLDEST.1,
    );
    let known = has_core("rustup", &["run", LINKED, "rustc"]);
    if !known {
        command::run(command::outside("rustup").args(["toolchain", "link", LINKED, "/usr"]))
            .context("rustup is needed to choose between two compilers")?;
    }
    let state = if known { "ok" } else { "installed" };
    terminal::item(state, &format!("eBPF toolchain: {LINKED}, {version}"));
    Ok(())
}

/// Builds bpf-linker into the user's cache, unless it is there.
fn install_linker() -> Result<PathBuf> {
    let root = paths::cache()?.join(format!("bpf-linker-{LINKER}"));
    let linker = root.join("bin/bpf-linker");
    let there = linker.exists();
    if !there {
        terminal::note("cargo install bpf-linker (about a minute, once) ...");
        let mut cargo = command::outside("cargo");
        cargo.args(["install", "--quiet", "--locked", "bpf-linker"]);
        command::run(cargo.args(["--version", LINKER, "--root"]).arg(&root))?;
    }
    let state = if there { "ok" } else { "installed" };
    terminal::item(state, &format!("bpf-linker {LINKER}: {}", linker.display()));
    Ok(linker)
}

/// True if a compiler is there and has a `core` for the BPF target.
fn has_core(program: &str, arguments: &[&str]) -> bool {
    let mut rustc = command::outside(program);
    rustc.args(arguments);
    rustc.args(["--print", "target-libdir", "--target", "bpfel-unknown-none"]);
    command::output(&mut rustc).is_some_and(|directory| Path::new(&directory).is_dir())
}

/// The major and minor number in the answer of `rustc --version`.
fn version_of(answer: &str) -> Option<(u32, u32)> {
    let mut numbers = answer.split(' ').nth(1)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn write_if_different(file: &Path, content: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|it| it == content) {
        return Ok(());
    }
    fs::write(file, content).with_context(|| format!("{}: write", file.display()))
}

fn link_if_different(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|it| it == target) {
        return Ok(());
    }
    let _ = fs::remove_file(link);
    unix::symlink(target, link).with_context(|| format!("{}: symlink", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_tells_its_llvm() {
        let answer = "release: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_library(answer).as_deref(), Some("libLLVM.so.22.1 "));
        assert_eq!(llvm_library("release: 1.96.0"), None);
    }

    #[test]
    fn a_compiler_tells_its_version() {
        let debian = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)";
        assert_eq!(version_of(debian), Some((1, 96)));
        assert_eq!(version_of("rustc 1.63.0"), Some((1, 63)));
        assert_eq!(version_of(""), None);
    }
}
