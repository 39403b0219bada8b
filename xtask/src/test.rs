//! `cargo xtask test`: all tests, with the agent that the end-to-end tests start; on this
//! machine, or in virtual ones.

mod older;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, thread};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::Value;

use crate::arch::Arch;
use crate::cross::Toolchain;
use crate::vm::{self, Kernel, Machine};
use crate::{command, paths, setup, terminal};

/// What has tests.
const PACKAGES: [&str; 4] = ["proxy-ebpf", "proxy-agent", "proxy-tests", "xtask"];
/// Where the end-to-end tests find the agent.
const AGENT: &str = "PROXY_AGENT_BIN";
/// Where those of an upgrade find the older one.
const OLDER: &str = "PROXY_AGENT_OLD_BIN";
/// Which tests upgrade an agent, for nextest.
const UPGRADES: [&str; 2] = ["-E", "binary(e2e) and test(/^upgrade::/)"];
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
    exit_code(nextest().args(arguments))
}

/// Runs the tests of an upgrade from the agent of another commit.
pub(crate) fn run_upgrade(from: &str, arguments: &[String]) -> Result<ExitCode> {
    setup::run()?;
    let older = older::build(from)?;
    build()?;
    terminal::heading("Test");
    let mut nextest = nextest();
    exit_code(nextest.env(OLDER, older).args(UPGRADES).args(arguments))
}

fn nextest() -> Command {
    let mut nextest = command::cargo();
    nextest.args(["nextest", "run", "--no-fail-fast"]);
    nextest.args(packages());
    nextest.env(AGENT, agent());
    // Tests in the lab wait a good part of their time.
    let threads = thread::available_parallelism().map_or(1, NonZero::get) + 1;
    if env::var_os(THREADS).is_none() {
        nextest.env(THREADS, threads.to_string());
    }
    nextest
}

fn exit_code(command: &mut Command) -> Result<ExitCode> {
    let status = command::status(command)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Runs the tests in virtual machines, one after another.
pub(crate) fn run_in_guests(
    arch: Arch,
    kernels: Kernels,
    only: Option<Part>,
    arguments: &[String],
) -> Result<ExitCode> {
    let built = if arch == Arch::HOST {
        setup::run_for_guests()?;
        Built::here()?
    } else {
        Built::across(arch)?
    };
    let script = match only {
        Some(Part::Load) => built.loading()?,
        Some(Part::Quick) => built.loading()? + &built.each_path()?,
        None if arch == Arch::HOST => everything(arguments)?,
        None => bail!("nextest is not there for {}: say `--only`", arch.name()),
    };
    terminal::heading("Kernels");
    let machines = match kernels {
        Kernels::All => vm::prepare(arch, &Kernel::ALL)?,
        Kernels::One(kernel) => vm::prepare(arch, &[kernel])?,
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

/// What was built for guests.
struct Built {
    agent: PathBuf,
    /// The test binaries by their targets.
    tests: BTreeMap<String, PathBuf>,
}

impl Built {
    fn here() -> Result<Self> {
        build()?;
        Self::listed(agent(), command::cargo(), &[])
    }

    /// For another processor, linked statically: the guest has a C library of its own.
    fn across(arch: Arch) -> Result<Self> {
        let toolchain = Toolchain::prepare(arch)?;
        let cargo = || {
            let mut cargo = toolchain.cargo();
            cargo.env("CARGO_ENCODED_RUSTFLAGS", toolchain.flags().join("\u{1f}"));
            cargo
        };
        terminal::heading("Build");
        let target = ["--target", arch.target()];
        let mut agent = cargo();
        agent.args(["build", "--bin", "proxy-agent"]).args(target);
        command::run(agent.args(packages()))?;
        let agent = paths::target()
            .join(arch.target())
            .join("debug/proxy-agent");
        Self::listed(agent, cargo(), &target)
    }

    /// Builds the tests for guests, as far as that is still to be done.
    fn listed(agent: PathBuf, mut cargo: Command, target: &[&str]) -> Result<Self> {
        cargo.args([
            "build",
            "--tests",
            "--message-format",
            "json-render-diagnostics",
        ]);
        cargo.args(target).args(packages());
        let output = cargo.stderr(Stdio::inherit()).output().context("cargo")?;
        ensure!(output.status.success(), "cargo build: {}", output.status);
        let messages = String::from_utf8_lossy(&output.stdout);
        let tests = messages.lines().filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is_test = message["profile"]["test"] == true;
            let path = message["executable"].as_str().filter(|_| is_test)?;
            Some((message["target"]["name"].as_str()?.to_owned(), path.into()))
        });
        Ok(Self {
            agent,
            tests: tests.collect(),
        })
    }

    /// A guest's script that has the kernel load every program.
    fn loading(&self) -> Result<String> {
        let binary = self.test("programs_load")?;
        Ok(format!("{binary} --nocapture --test-threads=1 || exit\n"))
    }

    /// A guest's script that sends a packet through each path.
    fn each_path(&self) -> Result<String> {
        let binary = self.test("e2e")?;
        let environment = environment(&self.agent);
        Ok(format!("{environment} {binary} every_path:: || exit\n"))
    }

    fn test(&self, name: &str) -> Result<std::path::Display<'_>> {
        let path = self.tests.get(name);
        let path = path.with_context(|| format!("cargo built no test {name}"))?;
        Ok(path.display())
    }
}

/// What tests in a guest are told, in the shell's words.
fn environment(agent: &Path) -> String {
    format!("{AGENT}={} LAB_SLOWNESS=8", agent.display())
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
        environment = environment(&agent()),
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
