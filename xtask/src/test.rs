//! `cargo xtask test`: all tests, with the agent that the end-to-end tests start; on this
//! machine, or in virtual ones.

use std::fs;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, thread};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::Value;

use crate::vm::{self, Kernel, Machine};
use crate::{command, paths, setup, terminal};

/// What has tests.
const PACKAGES: [&str; 4] = ["proxy-ebpf", "proxy-agent", "proxy-tests", "xtask"];
/// Where the end-to-end tests find the agent.
const AGENT: &str = "PROXY_AGENT_BIN";
/// How many tests nextest runs at once, unless its arguments say it.
const THREADS: &str = "NEXTEST_TEST_THREADS";

/// With which kernels tests run in virtual machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernels {
    All,
    One(Kernel),
}

impl ValueEnum for Kernels {
    fn value_variants<'a>() -> &'a [Self] {
        const VARIANTS: [Kernels; Kernel::ALL.len() + 1] = [
            Kernels::One(Kernel::ALL[0]),
            Kernels::One(Kernel::ALL[1]),
            Kernels::One(Kernel::ALL[2]),
            Kernels::One(Kernel::ALL[3]),
            Kernels::All,
        ];
        &VARIANTS
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::All => Some(PossibleValue::new("all").help("Each of them, one after another")),
            Self::One(kernel) => kernel.to_possible_value(),
        }
    }
}

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Whether the kernel takes the programs
    Load,
    /// That, and whether a packet gets through each path
    Quick,
}

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    setup::run()?;
    build()?;
    terminal::heading("Test");
    let mut nextest = command::cargo();
    nextest.args(["nextest", "run", "--no-fail-fast"]);
    nextest.args(packages());
    nextest.env(AGENT, agent());
    // Tests in the lab wait a good part of their time.
    let threads = thread::available_parallelism().map_or(1, NonZero::get) + 1;
    if env::var_os(THREADS).is_none() {
        nextest.env(THREADS, threads.to_string());
    }
    let status = command::status(nextest.args(arguments))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs the tests in virtual machines, one after another.
pub(crate) fn run_in_guests(
    kernels: Kernels,
    only: Option<Part>,
    arguments: &[String],
) -> Result<ExitCode> {
    setup::run_for_guests()?;
    build()?;
    let script = match only {
        Some(Part::Load) => loading()?,
        Some(Part::Quick) => loading()? + &each_path()?,
        None => everything(arguments)?,
    };
    terminal::heading("Kernels");
    let machines = match kernels {
        Kernels::All => vm::prepare(&Kernel::ALL)?,
        Kernels::One(kernel) => vm::prepare(&[kernel])?,
    };
    let mut failed = Vec::new();
    for machine in &machines {
        terminal::heading(&machine.title());
        if machine.run(&script)? != 0 {
            failed.push(machine);
        }
    }
    terminal::heading("Result");
    for machine in &machines {
        let is_failed = failed.iter().any(|it| std::ptr::eq(*it, machine));
        terminal::item(
            if is_failed { "failed" } else { "passed" },
            &Machine::title(machine),
        );
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn packages() -> impl Iterator<Item = &'static str> {
    PACKAGES.iter().flat_map(|name| ["--package", name])
}

fn agent() -> PathBuf {
    paths::target().join("debug/proxy-agent")
}

fn build() -> Result<()> {
    terminal::heading("Build");
    // All at once: by itself the agent would be built with fewer features of what it uses,
    // and all of that twice.
    let mut build = command::cargo();
    build.args(["build", "--bins", "--tests"]);
    command::run(build.args(packages()))
}

/// A guest's script that has the kernel load every program.
fn loading() -> Result<String> {
    let binary = binary("proxy-agent::programs_load")?;
    Ok(format!("{binary} --nocapture --test-threads=1 || exit\n"))
}

/// A guest's script that sends a packet through each path.
fn each_path() -> Result<String> {
    let binary = binary("proxy-tests::e2e")?;
    let environment = environment();
    Ok(format!("{environment} {binary} every_path:: || exit\n"))
}

/// A test binary by nextest's name for it.
fn binary(name: &str) -> Result<String> {
    let binaries: Value = serde_json::from_str(&binaries()?)?;
    let path = binaries["rust-binaries"][name]["binary-path"].as_str();
    let path = path.with_context(|| format!("nextest does not list {name}"))?;
    Ok(path.to_owned())
}

/// What tests in a guest are told, in the shell's words.
fn environment() -> String {
    format!("{AGENT}={} LAB_SLOWNESS=8", agent().display())
}

/// A guest's script that runs all tests, or those that the arguments of nextest choose.
fn everything(arguments: &[String]) -> Result<String> {
    let folder = paths::target().join("vm");
    fs::create_dir_all(&folder)?;
    let list = folder.join("binaries.json");
    fs::write(&list, binaries()?)?;
    let mut metadata = command::cargo();
    metadata.args(["metadata", "--format-version", "1", "--locked"]);
    let metadata = command::output(&mut metadata).context("cargo metadata failed")?;
    let description = folder.join("cargo.json");
    fs::write(&description, metadata)?;
    let nextest = command::find("cargo-nextest").context("cargo-nextest: not found")?;
    let arguments: Vec<_> = arguments.iter().map(|it| quoted(it)).collect();
    Ok(format!(
        "cd {root}\nexport {environment} {THREADS}=1\n\
         exec {nextest} nextest run --no-fail-fast --show-progress none --color never \
         --binaries-metadata {list} \
         --cargo-metadata {description} {arguments}\n",
        root = paths::root().display(),
        environment = environment(),
        nextest = nextest.display(),
        list = list.display(),
        description = description.display(),
        arguments = arguments.join(" "),
    ))
}

/// nextest's list of the test binaries.
fn binaries() -> Result<String> {
    let mut list = command::cargo();
    list.args(["nextest", "list", "--list-type", "binaries-only"]);
    list.args(["--message-format", "json"]).args(packages());
    command::output(&mut list).context("cargo nextest list failed")
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
