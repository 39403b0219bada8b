//! The agent of another commit, which a test upgrades from.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{command, paths, terminal};

/// Builds the agent of a commit, in a worktree of its own; cargo keeps what it has built for
/// the next commit.
pub(super) fn build(revision: &str) -> Result<PathBuf> {
    terminal::heading(&format!("Build of {revision}"));
    let folder = paths::target().join("upgrade");
    let (source, target) = (folder.join("source"), folder.join("target"));
    let mut resolve = command::outside("git");
    resolve.args(["rev-parse", "--verify", "--quiet"]);
    let commit = command::output(resolve.arg(format!("{revision}^{{commit}}")));
    let commit = commit.with_context(|| format!("{revision}: no such commit"))?;
    let mut git = command::outside("git");
    if source.join(".git").exists() {
        git.arg("-C").arg(&source);
        git.args(["checkout", "--quiet", "--detach", &commit]);
    } else {
        // By force: git may remember one that somebody has removed with all of target.
        git.args(["worktree", "add", "--quiet", "--force", "--detach"]);
        git.arg(&source).arg(&commit);
    }
    command::run(&mut git)?;
    let mut build = command::cargo();
    build.args(["build", "--package", "proxy-agent", "--bin", "proxy-agent"]);
    build.current_dir(&source).env("CARGO_TARGET_DIR", &target);
    // The worktree's own settings name a folder that nothing was set up in.
    build.env("EBPF_TOOLS", paths::ebpf_tools());
    command::run(&mut build)?;
    Ok(target.join("debug/proxy-agent"))
}
