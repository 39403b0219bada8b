//! Subcommands of cargo that others wrote.

use anyhow::Result;

use crate::{command, terminal};

/// A subcommand, which is cargo's `NAME` of the package `cargo-NAME`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subcommand(&'static str);

/// Runs the tests.
pub(super) const NEXTEST: Subcommand = Subcommand("nextest");
/// Check dependencies: what they are allowed to be, and whether they are used.
pub(super) const FOR_LINT: [Subcommand; 2] = [Subcommand("deny"), Subcommand("machete")];

impl Subcommand {
    /// Installs it if it is not there.
    pub(super) fn install(self) -> Result<()> {
        let Self(name) = self;
        let package = format!("cargo-{name}");
        let present = command::output(command::outside("cargo").args([name, "--version"]));
        let state = if present.is_some() {
            "ok"
        } else {
            terminal::note(&format!("cargo install {package} (some minutes, once) ..."));
            let mut cargo = command::outside("cargo");
            // It is seldom run: its build may take less time than its authors' profile does.
            cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
            cargo.env("CARGO_PROFILE_RELEASE_LTO", "off");
            cargo.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
            command::run(cargo.args(["install", "--quiet", "--locked", &package]))?;
            "installed"
        };
        terminal::item(state, &package);
        Ok(())
    }
}
