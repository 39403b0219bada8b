//! What commands for operators have in common: their options, and how they end.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::list::Format;
use crate::config::DEFAULT_BPFFS;
use crate::inspect::{Filter, ServiceFilter};
use crate::model::object::{Family, Protocol};

/// The exit status where a question cannot be answered.
const CANNOT_TELL: u8 = 2;

/// Where the maps are.
#[derive(Clone, Debug, Args)]
pub(super) struct MapsArgs {
    /// The BPF file system of the agent, its own `--bpffs`.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub(super) bpffs: PathBuf,
}

/// How to print, and how often.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputArgs {
    /// How to print.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(super) output: Format,

    /// Print again each so many seconds, until stopped.
    #[arg(
        long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    watch: Option<u64>,
}

/// An IP family.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FamilyArg {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

/// A protocol of Services.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProtocolArg {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// Which rows to print.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Filters")]
pub(super) struct FilterArgs {
    /// Only those of a Service, or of one of its ports.
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]")]
    service: Option<ServiceFilter>,

    /// Only those with this address: of a frontend, a client or an endpoint.
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,

    /// Only those with this port number; with `--address`, at this address.
    #[arg(long, value_name = "NUMBER")]
    port: Option<u16>,

    /// Only those of an IP family.
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,

    /// Only those of a protocol.
    #[arg(long, value_enum)]
    protocol: Option<ProtocolArg>,
}

impl FilterArgs {
    /// As the rows are filtered by it.
    pub(super) fn filter(&self) -> Filter {
        Filter {
            service: self.service.clone(),
            address: self.address,
            port: self.port,
            family: self.family.map(|family| match family {
                FamilyArg::Ipv4 => Family::V4,
                FamilyArg::Ipv6 => Family::V6,
            }),
            protocol: self.protocol.map(|protocol| match protocol {
                ProtocolArg::Tcp => Protocol::Tcp,
                ProtocolArg::Udp => Protocol::Udp,
                ProtocolArg::Sctp => Protocol::Sctp,
            }),
        }
    }
}

/// Prints what `print` does, once or again and again. It says whether the answer is a good one.
pub(super) fn run(
    args: &OutputArgs,
    mut print: impl FnMut(&mut dyn Write) -> Result<bool>,
) -> ExitCode {
    let Some(seconds) = args.watch else {
        return once(print);
    };
    loop {
        if io::stdout().is_terminal() {
            // Clears the screen, and goes to its first line (ECMA-48).
            print!("\x1b[2J\x1b[H");
        }
        match print_once(&mut print) {
            Err(error) if is_broken_pipe(&error) => return ExitCode::SUCCESS,
            Err(error) => eprintln!("error: {error:#}"),
            Ok(_) => {}
        }
        sleep(Duration::from_secs(seconds));
    }
}

/// The same, once.
pub(super) fn once(print: impl FnOnce(&mut dyn Write) -> Result<bool>) -> ExitCode {
    end(print_once(print))
}

fn print_once(print: impl FnOnce(&mut dyn Write) -> Result<bool>) -> Result<bool> {
    let mut out = BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    let result = print(&mut out);
    out.flush()?;
    result
}

/// The exit status of a command that was answered well, badly, or not at all.
fn end(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever reads has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(CANNOT_TELL)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|it| it.downcast_ref::<io::Error>());
    causes.any(|it| it.kind() == io::ErrorKind::BrokenPipe)
}
