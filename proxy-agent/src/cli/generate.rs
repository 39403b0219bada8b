//! The commands `completions` and `man`: what shells and man(1) are told of the command line.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Error};
use clap::{Args, Command};
use clap_complete::Shell;

/// For whom.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// To where.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder, which is made where it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(super) const COMPLETIONS_EXAMPLES: &str = "Examples:
  For this session of bash:
    source <(proxy-agent completions bash)

  For good, on Debian:
    proxy-agent completions bash > /usr/share/bash-completion/completions/proxy-agent";

pub(super) const MAN_EXAMPLES: &str = "Example:
  proxy-agent man --out /usr/local/share/man/man1 && man proxy-agent-run";

/// Prints completions of `command`.
pub(super) fn completions(args: &CompletionsArgs, command: &mut Command) -> ExitCode {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, name, &mut script);
    // Who reads it may have had enough.
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed(&error.into()),
        _ => ExitCode::SUCCESS,
    }
}

/// Writes the pages of `command` and of its subcommands.
pub(super) fn man(args: &ManArgs, command: Command) -> ExitCode {
    let out = &args.out;
    let written = std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(command, out))
        .with_context(|| format!("cannot write manual pages to {}", out.display()));
    written.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

/// These commands have no log.
fn failed(error: &Error) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::FAILURE
}
