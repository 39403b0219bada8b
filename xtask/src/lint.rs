//! `cargo xtask lint`: what can be checked of the sources without running them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{command, paths, setup, terminal};

/// The fuzzer's package, which is a workspace of its own.
const FUZZER: &str = "tests/fuzz/Cargo.toml";

/// A check's name, and what makes it.
type Check = (&'static str, Command);

pub(crate) fn run() -> Result<()> {
    setup::run_for_lint()?;
    let mut failed = Vec::new();
    for (name, mut check) in checks()? {
        terminal::heading(name);
        if !command::status(&mut check)?.success() {
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// All checks, the quick ones first.
fn checks() -> Result<Vec<Check>> {
    let files = files()?;
    let shell = files.iter().filter(|file| is_shell(file));
    let yaml = files.iter().filter(|file| has_extension(file, "yaml"));
    let mut shellcheck = command::outside("shellcheck");
    shellcheck.args(shell);
    let mut yamllint = command::outside("yamllint");
    yamllint.arg("--strict").args(yaml);
    Ok(vec![
        ("shellcheck", shellcheck),
        ("yamllint", yamllint),
        ("rustfmt", cargo(&["fmt", "--all", "--check"])),
        (
            "rustfmt of the fuzzer",
            cargo(&["fmt", "--check", "--manifest-path", FUZZER]),
        ),
        ("unused dependencies", machete()),
        ("dependencies", deny("Cargo.toml")),
        ("dependencies of the fuzzer", deny(FUZZER)),
        ("clippy", clippy()),
        ("rustdoc", rustdoc()),
    ])
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = command::cargo();
    cargo.args(arguments);
    cargo
}

/// Takes a package in its environment for one that is to run it.
fn machete() -> Command {
    let mut cargo = command::outside("cargo");
    cargo.arg("machete");
    cargo
}

/// What `deny.toml` says, but for the list of vulnerabilities, which is fetched from the
/// network and changes without the sources.
fn deny(manifest: &str) -> Command {
    let mut cargo = cargo(&["deny", "--manifest-path", manifest, "--locked", "--config"]);
    cargo.arg(paths::root().join("deny.toml"));
    cargo.args(["check", "--hide-inclusion-graph"]);
    // Its lists are for both workspaces.
    cargo.args(["--allow", "license-not-encountered"]);
    cargo.args(["--allow", "unmatched-skip"]);
    cargo.args(["bans", "licenses", "sources"]);
    cargo
}

fn clippy() -> Command {
    let mut cargo = cargo(&["clippy", "--workspace", "--all-targets"]);
    cargo.args(["--", "-D", "warnings"]);
    cargo
}

/// Documentation is for who works on the code: links to private items have to lead somewhere.
fn rustdoc() -> Command {
    let mut cargo = cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    cargo.env("RUSTDOCFLAGS", "-D warnings");
    cargo
}

/// The tree's files, by their paths from its root: those that git has, or would take.
fn files() -> Result<Vec<PathBuf>> {
    let mut git = command::outside("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let list = command::output(&mut git).context("git ls-files failed")?;
    let files = list.lines().map(PathBuf::from);
    Ok(files
        .filter(|it| paths::root().join(it).is_file())
        .collect())
}

/// Whether a file is a shell's script, by its name or its first line.
fn is_shell(file: &Path) -> bool {
    has_extension(file, "sh")
        || fs::read_to_string(paths::root().join(file)).is_ok_and(|text| has_shebang(&text))
}

fn has_shebang(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first.starts_with("#!") && !first.starts_with("#![") && first.ends_with("sh")
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|it| it == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_first_line() {
        assert!(has_shebang("#!/usr/bin/env bash\nset -e\n"));
        assert!(has_shebang("#!/bin/busybox sh\n"));
        assert!(!has_shebang("#![cfg(target_arch = \"bpf\")] // sh\n"));
        assert!(!has_shebang("#!/usr/bin/env python3\n"));
        assert!(!has_shebang(""));
    }
}
