//! `cargo xtask image`: the agent as a container image.

mod archive;
mod program;

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{paths, setup, terminal};

pub(crate) fn run() -> Result<()> {
    setup::run()?;
    terminal::heading("Build");
    let root = paths::target().join("image/root");
    let archive = paths::target().join("image/proxy-agent.tar");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("{}: remove", root.display()))?;
    }
    fs::create_dir_all(&root).with_context(|| format!("{}: mkdir", root.display()))?;
    fs::copy(program::build()?, root.join(archive::PROGRAM))?;
    fs::copy(paths::root().join("LICENSE"), root.join("LICENSE"))?;
    terminal::heading("Image");
    let digest = archive::write(&root, &archive)?;
    // Nothing else is there: the program has to bring all that it needs.
    let mut agent = Command::new("chroot");
    agent
        .arg(&root)
        .args([&format!("/{}", archive::PROGRAM), "--version"]);
    let output = agent.output().context("chroot")?;
    ensure!(
        output.status.success(),
        "the program does not run in the image's root: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let version = String::from_utf8_lossy(&output.stdout);
    println!("  {} in the image's root", version.trim());
    let size = fs::metadata(&archive)?.len() / 1_000_000;
    println!("  {} ({size} MB, {digest})", archive.display());
    Ok(())
}
