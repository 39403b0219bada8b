//! `cargo xtask setup`: finds or installs what building and testing needs.
//!
//! Idempotent, and quick once all is there; it writes nothing that is right
//! already, so that cargo has no reason to build anything again.

mod apt;
mod cargo;
mod ebpf;
mod tools;

use anyhow::Result;
pub(crate) use ebpf::LINKED as DISTRIBUTION;

use crate::terminal;

pub(crate) fn run() -> Result<()> {
    prepare(tools::TOOLS)
}

/// What building and testing needs, and what checks the sources.
pub(crate) fn run_for_lint() -> Result<()> {
    let tools = [tools::TOOLS, tools::FOR_LINT].concat();
    prepare(&tools)?;
    cargo::FOR_LINT
        .into_iter()
        .try_for_each(cargo::Subcommand::install)
}

/// What building and testing needs, and what virtual machines do.
pub(crate) fn run_for_guests() -> Result<()> {
    let tools = [tools::TOOLS, tools::FOR_GUESTS].concat();
    prepare(&tools)
}

/// The same, and what building for arm64 needs and machines with such a processor.
pub(crate) fn run_for_arm64() -> Result<()> {
    let tools = [tools::TOOLS, tools::FOR_GUESTS, tools::FOR_ARM64].concat();
    prepare(&tools)
}

/// Installs what tests can do without, where that is possible.
fn install_optional() {
    let optional = tools::missing(tools::WHERE_PACKAGED).into_iter();
    for tool in optional.filter(|tool| apt::offers(tool.package)) {
        if let Err(error) = apt::install(&[tool.package]) {
            terminal::note(&format!("going on without {}: {error:#}", tool.package));
        }
    }
}

fn prepare(tools: &[tools::Tool]) -> Result<()> {
    terminal::heading("Setup");
    let way = ebpf::Way::find();
    let missing = tools::missing(tools);
    let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
    packages.extend(way.missing_packages());
    apt::install(&packages)?;
    tools::report(tools, &missing);
    install_optional();
    way.prepare()?;
    cargo::NEXTEST.install()
}
