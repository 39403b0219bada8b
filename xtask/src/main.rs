//! The project's chores: `cargo xtask --help` lists them.

mod arch;
mod bench;
mod command;
mod cross;
mod debian;
mod demo;
mod fuzz;
mod image;
mod interrupt;
mod lint;
mod paths;
mod setup;
mod terminal;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use arch::Arch;

/// The project's chores. From a fresh clone, `cargo xtask demo` does all it needs.
///
/// Everything runs on this machine, as root, in network namespaces that have no
/// way out: no cluster, container runtime or virtual machine is needed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Find or install what building and testing needs
    ///
    /// Run it again at any time: what is there is left as it is. The other
    /// chores begin with it, so there is no need to call it by hand.
    Setup,
    /// Check the sources without running them
    ///
    /// Formatting, clippy, rustdoc with its links, what dependencies are allowed (licenses,
    /// sources, duplicates) and whether they are used, shell scripts and YAML. A warning is an
    /// error. All checks are made, also after one has failed.
    Lint,
    /// Show the proxy at work in a cluster of namespaces
    ///
    /// Two nodes with three pods each and a client outside; real HTTP and DNS
    /// servers, real clients, the real agent. Asks through every kind of
    /// frontend, then scales a Service while requests run. The exit code is 0
    /// only if every request was answered by the right pods.
    Demo {
        /// Leave the cluster up, and print how to look around in it
        #[arg(long)]
        keep: bool,
    },
    /// Run all tests, those in the lab included
    ///
    /// Builds the agent for the end-to-end tests, then calls nextest. With `--kernel` in a
    /// virtual machine that has another kernel, from Debian's packages: what was built here is
    /// run there.
    #[command(after_help = "Examples:
  cargo xtask test -- --no-capture -E 'test(hairpin)'
  cargo xtask test --kernel 6.1 -- -E 'binary(kernel_agrees)'
  cargo xtask test --kernel all --only quick
  cargo xtask test --kernel 6.1 --arch arm64 --only quick
  cargo xtask test --upgrade-from HEAD~1")]
    Test {
        /// In a virtual machine with this kernel
        #[arg(long, value_name = "KERNEL")]
        kernel: Option<test::Kernels>,
        /// With this processor, for which the tests are then built
        #[arg(long, value_name = "ARCH", default_value = Arch::HOST.name(), requires = "kernel")]
        arch: Arch,
        /// Only a part of the tests, with `--kernel`
        #[arg(long, value_name = "PART", requires = "kernel")]
        only: Option<test::Part>,
        /// Only the tests of an upgrade, from the agent of this commit, which is built for it
        #[arg(long, value_name = "COMMIT", conflicts_with = "kernel")]
        upgrade_from: Option<String>,
        /// Passed on to `cargo nextest run`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measure what the proxy costs, beside kube-proxy's rules and no proxy at all
    ///
    /// Without a subcommand, compares: no proxy at all (the limit), rules of the form that
    /// kube-proxy writes for iptables and for nftables, and this agent's three paths, each in
    /// a lab of its own.
    #[command(after_help = "Examples:
  cargo xtask bench --quick
  cargo xtask bench --json bench.json --svg plots
  cargo xtask bench --only connect,first-packet --services 1,1000
  cargo xtask bench --report bench.json")]
    Bench(bench::Bench),
    /// Fuzz the packet pipeline for a while
    ///
    /// libFuzzer, guided by coverage, on the host; begins with the tests' packets
    /// and with what it found before. An input that breaks something is kept.
    Fuzz {
        /// How long
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
    },
    /// Build the container image of the agent
    ///
    /// Builds the agent as one static program and writes an OCI image archive, for
    /// which no container engine is needed. Then it runs the program in the image's
    /// root. The same program gives the same image, to the last bit.
    #[command(
        after_help = "Example: ctr --namespace k8s.io images import target/image/proxy-agent.tar"
    )]
    Image {
        /// For which processors; an image of several has an index
        #[arg(long, value_name = "ARCH", value_delimiter = ',', default_value = Arch::HOST.name())]
        arch: Vec<Arch>,
    },
}

fn main() -> ExitCode {
    match run(&Arguments::parse().chore) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{} {error:#}", terminal::red("error:"));
            ExitCode::FAILURE
        }
    }
}

fn run(chore: &Chore) -> Result<ExitCode> {
    match chore {
        Chore::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Chore::Lint => lint::run().map(|()| ExitCode::SUCCESS),
        Chore::Demo { keep } => demo::run(*keep),
        Chore::Test {
            upgrade_from: Some(commit),
            arguments,
            ..
        } => test::run_upgrade(commit, arguments),
        Chore::Test {
            kernel: None,
            arguments,
            ..
        } => test::run(arguments),
        Chore::Test {
            kernel: Some(kernels),
            arch,
            only,
            arguments,
            ..
        } => test::run_in_guests(*arch, *kernels, *only, arguments),
        Chore::Bench(bench) => bench::run(bench).map(|()| ExitCode::SUCCESS),
        Chore::Fuzz { seconds } => fuzz::run(*seconds).map(|()| ExitCode::SUCCESS),
        Chore::Image { arch } => image::run(arch).map(|()| ExitCode::SUCCESS),
    }
}
