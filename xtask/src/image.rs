//! `cargo xtask image`: the agent as a container image.

mod archive;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::arch::Arch;
use crate::{paths, terminal};

pub(crate) fn run(processors: &[Arch]) -> Result<()> {
    let archive = paths::target().join("image/proxy-agent.tar");
    let mut roots = Vec::new();
    for arch in processors {
        roots.push((*arch, fill_root(*arch)?));
    }
    terminal::heading("Image");
    let roots: Vec<_> = roots
        .iter()
        .map(|(arch, it)| (*arch, it.as_path()))
        .collect();
    let digest = archive::write(&roots, &archive)?;
    for (arch, root) in roots {
        if arch == Arch::HOST {
            try_out(root)?;
        } else {
            println!("  for {}, not run: this machine is another", arch.name());
        }
    }
    let size = fs::metadata(&archive)?.len() / 1_000_000;
    println!("  {} ({size} MB, {digest})", archive.display());
    Ok(())
}

/// Builds for a processor, and makes the root of its image.
fn fill_root(arch: Arch) -> Result<PathBuf> {
    let program = program::build(arch)?;
    // The Containerfile looks for this machine's.
    let name = if arch == Arch::HOST {
        "root".to_owned()
    } else {
        format!("root-{}", arch.name())
    };
    let root = paths::target().join("image").join(name);
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("{}: remove", root.display()))?;
    }
    fs::create_dir_all(&root).with_context(|| format!("{}: mkdir", root.display()))?;
    fs::copy(program, root.join(archive::PROGRAM))?;
    fs::copy(paths::root().join("LICENSE"), root.join("LICENSE"))?;
    Ok(root)
}

/// Nothing else is there: the program has to bring all that it needs.
fn try_out(root: &Path) -> Result<()> {
    let mut agent = Command::new("chroot");
    agent
        .arg(root)
        .args([&format!("/{}", archive::PROGRAM), "--version"]);
    let output = agent.output().context("chroot")?;
    ensure!(
        output.status.success(),
        "the program does not run in the image's root: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let version = String::from_utf8_lossy(&output.stdout);
    println!("  {} in the image's root", version.trim());
    Ok(())
}
