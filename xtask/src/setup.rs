//! `cargo xtask setup`: finds or installs what building and testing needs.
//!
//! Idempotent, and quick once all is there; it writes nothing that is right
//! already, so that cargo has no reason to build anything again.

mod apt;
mod ebpf;
mod nextest;
mod tools;

use anyhow::Result;

use crate::terminal;

pub(crate) fn run() -> Result<()> {
    terminal::heading("Setup");
    let way = ebpf::Way::find();
    let missing = tools::missing();
    let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    packages.extend(way.missing_packages());
    apt::install(&packages)?;
    tools::report(&missing);
    way.prepare()?;
    nextest::install()
}
