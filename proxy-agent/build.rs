//! Builds the eBPF object that the agent carries.
//!
//! `cargo xtask setup` finds or installs a toolchain that can, and leaves its
//! name and a linker in the folder `$EBPF_TOOLS` (set in `.cargo/config.toml`).
#![expect(
    unsafe_code,
    reason = "aya-build passes its own environment on to the compiler"
)]

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};

/// Crates that may use unstable features where the toolchain is a stable one:
/// the program's own, and aya's, which needs a feature gate on the BPF target.
const UNSTABLE_CRATES: &str = "aya_ebpf,aya_ebpf_bindings,aya_ebpf_cty,proxy_ebpf,programs";

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=EBPF_TOOLS");
    let tools = PathBuf::from(
        env::var_os("EBPF_TOOLS").context("EBPF_TOOLS is not set: build inside the repository")?,
    );
    let marker = tools.join("toolchain");
    println!("cargo:rerun-if-changed={}", marker.display());
    let toolchain = fs::read_to_string(&marker)
        .context("no toolchain for eBPF was set up here: run `cargo xtask setup` first")?;
    let toolchain = toolchain.trim();

    prepend("PATH", tools.join("bin"))?;
    if toolchain != "nightly" {
        // The linker takes the first libLLVM that it finds here: it has to be the
        // one of the compiler.
        prepend("LD_LIBRARY_PATH", tools.join("lib"))?;
        // SAFETY: a build script's only thread.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", UNSTABLE_CRATES) };
    }
    // aya-build passes all that cargo prints on as warnings; without the progress these are
    // the compiler's warnings and errors.
    // SAFETY: a build script's only thread.
    unsafe { env::set_var("CARGO_TERM_QUIET", "true") };
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy-ebpf");
    aya_build::build_ebpf(
        [aya_build::Package {
            name: "proxy-ebpf",
            root_dir: root,
            ..Default::default()
        }],
        aya_build::Toolchain::Custom(toolchain),
    )?;
    strip()
}

/// Takes the DWARF out of the object, four fifths of it, which would stay in the agent's
/// memory: the kernel and aya read BTF, which is left.
fn strip() -> Result<()> {
    let folder = env::var_os("OUT_DIR").context("OUT_DIR is not set")?;
    let status = Command::new("llvm-strip")
        .arg("--strip-debug")
        .arg(PathBuf::from(folder).join("programs"))
        .status()
        .context("llvm-strip: run `cargo xtask setup`")?;
    ensure!(status.success(), "llvm-strip: {status}");
    Ok(())
}

/// Puts `folder` first in a variable that lists folders.
fn prepend(variable: &str, folder: PathBuf) -> Result<()> {
    let mut folders = vec![folder];
    folders.extend(env::split_paths(&env::var_os(variable).unwrap_or_default()));
    // SAFETY: a build script's only thread.
    unsafe { env::set_var(variable, env::join_paths(folders)?) };
    Ok(())
}
