//! `cargo xtask fuzz`: the pipeline under libFuzzer, for a bounded time.
//!
//! The stable toolchain does: coverage comes from LLVM's `SanitizerCoverage` pass,
//! by the flags that cargo-fuzz passes too, and no sanitizer is used, since the
//! pipeline on the host is almost all safe code.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::packets;

use crate::arch::Arch;
use crate::{command, paths, terminal};

/// What makes LLVM tell libFuzzer which edges ran, and what was compared.
const COVERAGE: [&str; 8] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Clink-dead-code",
];

/// Longest input: six frames of full size.
const LONGEST: usize = 6 * 1600;

pub(crate) fn run(seconds: u64) -> Result<()> {
    ensure!(
        command::find("c++").is_some(),
        "libFuzzer needs a C++ compiler: install Debian's g++, or another one as c++"
    );
    terminal::heading("Fuzz");
    let package = paths::root().join("tests/fuzz");
    let target = paths::target().join("fuzz");
    let mut cargo = command::outside("cargo");
    cargo.args(["build", "--release", "--locked", "--manifest-path"]);
    cargo.arg(package.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target);
    cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    // A target by name keeps the flags from build scripts and macros.
    cargo.args(["--target", Arch::HOST.target()]);
    command::run(&mut cargo)?;

    let corpus = target.join("corpus");
    write_seeds(&corpus)?;
    let program = target.join(Arch::HOST.target()).join("release/pipeline");
    let mut fuzzer = command::outside(&program.to_string_lossy());
    fuzzer.arg(&corpus);
    fuzzer.arg(format!("-max_total_time={seconds}"));
    fuzzer.arg(format!("-max_len={LONGEST}"));
    fuzzer.arg(format!("-artifact_prefix={}/", target.display()));
    fuzzer.args(["-print_final_stats=1", "-verbosity=1"]);
    command::run(&mut fuzzer).with_context(|| {
        format!(
            "the input that broke it is in {}; give it to {} as its argument",
            target.display(),
            program.display()
        )
    })
}

/// The fixtures as inputs to begin with; what a fuzzer found before stays.
fn write_seeds(corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus).with_context(|| format!("{}: mkdir", corpus.display()))?;
    for (name, bytes) in packets::seeds()? {
        fs::write(corpus.join(name), bytes)?;
    }
    Ok(())
}
