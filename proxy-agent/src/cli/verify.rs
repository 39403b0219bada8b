//! The command `verify`: has the agent compare the maps with what it has planned.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;

use super::list::{Format, List, Row};
use super::output;
use super::status::SocketArgs;
use super::table::Column;
use crate::serve;
use crate::status::{AuditReport, Difference};

/// While changes are on their way there is nothing to compare: how often the agent is asked, and
/// how long after the last time.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Whom to ask, and how to print.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    socket: SocketArgs,

    /// How to print.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
}

/// Prints the differences; good are none.
pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    output::once(|out| {
        let report = audit(args)?;
        let AuditReport {
            count, differences, ..
        } = &report;
        let mut list = List::new::<Difference>(&mut *out, args.output)?;
        differences.iter().try_for_each(|it| list.push(it))?;
        list.finish()?;
        if args.output != Format::Json {
            match (*count, count - differences.len()) {
                (0, _) => writeln!(out, "The maps hold what they should.")?,
                (count, 0) => writeln!(out, "{count} elements differed and were repaired.")?,
                (count, more) => writeln!(
                    out,
                    "{count} elements differed and were repaired; {more} of them are not shown."
                )?,
            }
        }
        Ok(*count == 0)
    })
}

fn audit(args: &VerifyArgs) -> Result<AuditReport> {
    let mut why = String::new();
    for _ in 0..ATTEMPTS {
        let report = serve::audit(&args.socket.socket)?;
        match report.not_done {
            None => return Ok(report),
            Some(reason) => why = reason,
        }
        sleep(PAUSE);
    }
    bail!("the agent cannot compare the maps: {why}")
}

impl Row for Difference {
    const KIND: &'static str = "DifferenceList";

    fn columns(_: bool) -> Vec<Column> {
        vec![Column::text("ELEMENT"), Column::text("REPAIR")]
    }

    fn lines(&self, _: bool) -> Vec<Vec<String>> {
        vec![vec![self.element.clone(), self.repair.clone()]]
    }
}
