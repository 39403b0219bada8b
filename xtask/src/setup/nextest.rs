//! The test runner.

use anyhow::Result;

use crate::{command, terminal};

/// Installs cargo-nextest if it is not there.
pub(super) fn install() -> Result<()> {
    let present = command::output(command::outside("cargo").args(["nextest", "--version"]));
    let state = if present.is_some() {
        "ok"
    } else {
        terminal::note("cargo install cargo-nextest (some minutes, once) ...");
        let mut cargo = command::outside("cargo");
        command::run(cargo.args(["install", "--quiet", "--locked", "cargo-nextest"]))?;
        "installed"
    };
    terminal::item(state, "cargo-nextest");
    Ok(())
}
