//! The agent as one static program.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::arch::Arch;
use crate::cross::Toolchain;
use crate::{command, paths, terminal};

/// Builds it for a processor, and returns where it is.
pub(super) fn build(arch: Arch) -> Result<PathBuf> {
    let toolchain = Toolchain::prepare(arch)?;
    // Paths of this machine would make programs differ that are the same. (Those in the
    // debug information of the eBPF object still do.)
    let mut flags = toolchain.flags();
    let homes = [
        (env::var("CARGO_HOME").ok(), "/cargo"),
        (env::var("HOME").ok(), "/home"),
    ];
    let places = homes
        .into_iter()
        .filter_map(|(path, name)| Some((path?, name)))
        .chain([(paths::root().display().to_string(), "/src")]);
    // The last that fits counts.
    flags.extend(places.map(|(path, name)| format!("--remap-path-prefix={path}={name}")));
    terminal::heading(&format!("Build for {}", arch.name()));
    let mut cargo = toolchain.cargo();
    cargo.args(["build", "--release", "--package", "proxy-agent"]);
    // With a target of its own, build scripts and macros are not meant by the flags.
    cargo.args(["--target", arch.target()]);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    command::run(&mut cargo)?;
    Ok(paths::target()
        .join(arch.target())
        .join("release/proxy-agent"))
}
