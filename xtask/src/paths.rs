//! Where things are.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// The workspace.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(chosen)
}

/// What setup found for building the eBPF object; proxy-agent's build script reads
/// it, and finds it by `EBPF_TOOLS` in .cargo/config.toml.
pub(crate) fn ebpf_tools() -> PathBuf {
    root().join("target/ebpf-tools")
}

/// For what takes long to build and serves every clone.
pub(crate) fn cache() -> Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.filter(|it| it.is_absolute()).or_else(home);
    let cache = cache.context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("proxy-agent"))
}
