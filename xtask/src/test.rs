//! `cargo xtask test`: all tests, with the agent that the end-to-end tests start.

use std::process::ExitCode;

use anyhow::Result;

use crate::{command, paths, setup, terminal};

/// Where the end-to-end tests find the agent.
const AGENT: &str = "PROXY_AGENT_BIN";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    setup::run()?;
    terminal::heading("Build");
    command::run(command::cargo().args(["build", "--package", "proxy-agent"]))?;
    terminal::heading("Test");
    let mut nextest = command::cargo();
    nextest.args(["nextest", "run", "--no-fail-fast"]);
    for package in ["proxy-ebpf", "proxy-agent", "proxy-tests", "xtask"] {
        nextest.args(["--package", package]);
    }
    nextest.env(AGENT, paths::target().join("debug/proxy-agent"));
    let status = command::status(nextest.args(arguments))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
