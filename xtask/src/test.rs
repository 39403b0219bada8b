//! `cargo xtask test`: all tests, with the agent that the end-to-end tests start.

use std::num::NonZero;
use std::process::ExitCode;
use std::{env, thread};

use anyhow::Result;

use crate::{command, paths, setup, terminal};

/// What has tests.
const PACKAGES: [&str; 4] = ["proxy-ebpf", "proxy-agent", "proxy-tests", "xtask"];
/// Where the end-to-end tests find the agent.
const AGENT: &str = "PROXY_AGENT_BIN";
/// How many tests nextest runs at once, unless its arguments say it.
const THREADS: &str = "NEXTEST_TEST_THREADS";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    setup::run()?;
    let packages = PACKAGES.iter().flat_map(|name| ["--package", name]);
    terminal::heading("Build");
    // All at once: by itself the agent would be built with fewer features of what it uses,
    // and all of that twice.
    let mut build = command::cargo();
    build.args(["build", "--bins", "--tests"]);
    command::run(build.args(packages.clone()))?;
    terminal::heading("Test");
    let mut nextest = command::cargo();
    nextest.args(["nextest", "run", "--no-fail-fast"]);
    nextest.args(packages);
    nextest.env(AGENT, paths::target().join("debug/proxy-agent"));
    // Tests in the lab wait a good part of their time.
    let threads = thread::available_parallelism().map_or(1, NonZero::get) + 1;
    if env::var_os(THREADS).is_none() {
        nextest.env(THREADS, threads.to_string());
    }
    let status = command::status(nextest.args(arguments))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
