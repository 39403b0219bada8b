//! Calls of `ip`, many commands to one process: a cluster is some hundred
//! commands, and a process for each would cost more than the work itself.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// Runs a batch of `ip` commands in the machine's own namespace.
///
/// Only for `netns` commands; all else belongs into a namespace of the lab.
pub(super) fn batch(commands: &[String]) -> Result<()> {
    run(&[], commands)
}

/// Runs a batch of `ip` commands in a namespace; the first failure ends it.
pub(super) fn batch_in(namespace: &str, commands: &[String]) -> Result<()> {
    run(&["-n", namespace], commands)
}

fn run(options: &[&str], commands: &[String]) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip: not found or not allowed (see `cargo xtask setup`)")?;
    let mut stdin = child.stdin.take().context("ip: no stdin")?;
    // A failing `ip` may close its end early; its own words say more than EPIPE.
    let _ = stdin.write_all(commands.join("\n").as_bytes());
    drop(stdin);
    let output = child.wait_with_output().context("ip: wait")?;
    ensure!(
        output.status.success(),
        "ip {} -batch: {}\nof:\n{}",
        options.join(" "),
        String::from_utf8_lossy(&output.stderr).trim(),
        commands.join("\n"),
    );
    Ok(())
}
