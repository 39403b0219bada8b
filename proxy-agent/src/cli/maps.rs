//! The commands `services`, `backends`, `flows` and `affinity`: what the pinned maps hold.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use super::list::{Format, List, Row};
use super::output::{self, FilterArgs, MapsArgs, OutputArgs};
use crate::inspect::{Filter, Names, State, affinity, backends, flows, services};
use crate::maps::{self, PinnedMaps};
use crate::model::object::Family;

/// The options of all of them.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    maps: MapsArgs,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    filter: FilterArgs,
}

/// The options of those that show all only if asked to.
#[derive(Debug, Args)]
pub(super) struct AllArgs {
    /// Also what is not in force any more: endpoints that are gone, flows that are over, notes of
    /// connections that nobody translates.
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    list: ListArgs,
}

impl ListArgs {
    /// Opens the maps and prints what `print` makes of them, as often as is wanted.
    fn run(
        &self,
        print: impl Fn(&mut PinnedMaps, &Filter, Format, &mut dyn Write) -> Result<bool>,
    ) -> ExitCode {
        let filter = self.filter.filter();
        output::run(&self.output, |out| {
            let mut maps = PinnedMaps::open(&self.maps.bpffs)?;
            print(&mut maps, &filter, self.output.output, out)
        })
    }
}

/// Prints Service ports and their frontends.
pub(super) fn services(args: &ListArgs) -> ExitCode {
    args.run(|maps, filter, format, out| {
        let state = State::read(maps)?;
        print_all(&services::list(&state, filter), format, out)
    })
}

/// Prints endpoints.
pub(super) fn backends(args: &AllArgs) -> ExitCode {
    args.list.run(|maps, filter, format, out| {
        let state = State::read(maps)?;
        print_all(&backends::list(&state, filter, args.all), format, out)
    })
}

/// Prints flows as they are read: none is kept.
pub(super) fn flows(args: &AllArgs) -> ExitCode {
    args.list.run(|maps, filter, format, out| {
        let names = maps.service_names()?;
        let reader = flows::Reader {
            names: Names::new(&names),
            timeouts: maps.timeouts()?,
            now: now()?,
            all: args.all,
        };
        let mut list = List::new::<flows::FlowRow>(out, format)?;
        for family in Family::ALL.into_iter().filter(|it| filter.has_family(*it)) {
            let mut written = Ok(());
            maps.for_each_flow(family, |record| {
                if written.is_ok()
                    && let Some(row) = reader.row(&record, filter)
                {
                    written = list.push(&row);
                }
            })?;
            written?;
        }
        Ok(list.finish()?)
    })
}

/// Prints where clients are sent again.
pub(super) fn affinity(args: &AllArgs) -> ExitCode {
    args.list.run(|maps, filter, format, out| {
        let state = State::read(maps)?;
        let reader = affinity::Reader::new(&state, now()?);
        let mut rows = Vec::new();
        maps.for_each_affinity(|record| rows.extend(reader.row(&record, filter, args.all)))?;
        affinity::sort(&mut rows);
        print_all(&rows, format, out)
    })
}

fn now() -> Result<u32> {
    maps::now().context("cannot read the clock")
}

fn print_all<R: Row>(rows: &[R], format: Format, out: impl Write) -> Result<bool> {
    let mut list = List::new::<R>(out, format)?;
    rows.iter().try_for_each(|row| list.push(row))?;
    Ok(list.finish()?)
}
