//! The command `trace`: events of the data path as they come.

mod lease;
mod lines;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use nix::net::if_::if_indextoname;
use nix::time::{ClockId, clock_gettime};
use proxy_ebpf::layout::{ServiceName, trace_kinds};
use tokio::time::{MissedTickBehavior, interval};

use lease::LeaseKeeper;
pub(super) use lines::Lines;

use super::list::Format;
use super::output::{self, MapsArgs};
use crate::inspect::trace::{Clocks, Lookup, TraceRow};
use crate::inspect::{Filter, ServiceFilter, ServiceRef};
use crate::maps::{PinnedMaps, RENEWAL, TraceEvents};
use crate::runtime::Signals;

/// How many events are read before something else may be done.
const BATCH: usize = 1024;

/// Which events, and how to print them.
#[derive(Debug, Args)]
pub(super) struct TraceArgs {
    /// Only those of a Service, or of one of its ports.
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]")]
    service: Option<ServiceFilter>,

    /// Only what is dropped, answered by a reset or an ICMP error, or refused at a socket.
    #[arg(long, conflicts_with = "new")]
    drops: bool,

    /// Only new flows.
    #[arg(long)]
    new: bool,

    #[command(flatten)]
    maps: MapsArgs,

    /// How to print; `json` is one document a line.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,
}

impl TraceArgs {
    /// The kinds that the programs are asked for.
    fn kinds(&self) -> u32 {
        match (self.drops, self.new) {
            (true, _) => trace_kinds::DROPS,
            (_, true) => trace_kinds::NEW_FLOWS,
            _ => trace_kinds::NEW_FLOWS | trace_kinds::DROPS,
        }
    }

    fn what(&self) -> &'static str {
        match (self.drops, self.new) {
            (true, _) => "drops and refusals",
            (_, true) => "new flows",
            _ => "new flows, drops and refusals",
        }
    }
}

/// Prints events until a signal comes; good is that none was lost.
pub(super) fn run(args: &TraceArgs) -> ExitCode {
    output::once(|out| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?
            .block_on(listen(args, out))
    })
}

async fn listen(args: &TraceArgs, out: &mut dyn Write) -> Result<bool> {
    let mut signals = Signals::new()?;
    let maps = PinnedMaps::open(&args.maps.bpffs)?;
    let (events, lease) = maps.listen(args.kinds())?;
    let keeper = LeaseKeeper::start(lease);
    let mut events = events.awaited().context("cannot wait for events")?;
    eprintln!(
        "Listening to {} of this node, until SIGINT (Ctrl-C) or SIGTERM.",
        args.what()
    );
    let mut printer = Printer {
        lines: Lines::new(out, args.output),
        filter: Filter {
            service: args.service.clone(),
            ..Filter::default()
        },
        names: LiveNames {
            maps: &maps,
            devices: RefCell::default(),
        },
    };
    let mut timer = interval(RENEWAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = signals.next() => break,
            ready = events.readable_mut() => {
                let mut ready = ready.context("cannot wait for events")?;
                if !printer.print_some(ready.get_inner_mut())? {
                    ready.clear_ready();
                }
            }
            _ = timer.tick() => printer.print_losses(events.get_mut())?,
        }
    }
    keeper.end()?;
    let events = events.get_mut();
    while printer.print_some(events)? {}
    printer.print_losses(events)?;
    Ok(printer.lines.finish()? == 0)
}

/// What prints events.
struct Printer<'a> {
    lines: Lines<&'a mut dyn Write>,
    filter: Filter,
    names: LiveNames<'a>,
}

impl Printer<'_> {
    /// Prints events that are there; whether there may be more.
    fn print_some(&mut self, events: &mut TraceEvents) -> Result<bool> {
        let clocks = clocks()?;
        for _ in 0..BATCH {
            let Some(record) = events.next_event() else {
                self.lines.flush()?;
                return Ok(false);
            };
            let row = TraceRow::new(&record, &self.names, clocks);
            let is_wanted = row.is_wanted(&self.filter);
            self.lines.push(&row, is_wanted)?;
        }
        Ok(true)
    }

    /// Prints how many events were lost, if there are more than before.
    fn print_losses(&mut self, events: &mut TraceEvents) -> Result<()> {
        ensure!(
            events.are_current(),
            "the agent has made new maps, or somebody has removed them: start `trace` again"
        );
        self.lines.lost(events.lost()?)?;
        Ok(self.lines.flush()?)
    }
}

fn clocks() -> Result<Clocks> {
    let since_boot = clock_gettime(ClockId::CLOCK_MONOTONIC).context("cannot read the clock")?;
    Ok(Clocks {
        since_boot: Duration::from(since_boot),
        utc: SystemTime::now(),
    })
}

/// The names as they are now.
struct LiveNames<'a> {
    maps: &'a PinnedMaps,
    devices: RefCell<BTreeMap<u32, String>>,
}

impl Lookup for LiveNames<'_> {
    fn service(&self, id: u32) -> ServiceRef {
        let name = self.maps.service_name(id);
        ServiceRef::new(id, name.as_ref().map(ServiceName::text))
    }

    fn service_at(&self, destination: SocketAddr, protocol: u8) -> Option<u32> {
        self.maps.service_at(destination, protocol)
    }

    fn device(&self, index: u32) -> String {
        let mut devices = self.devices.borrow_mut();
        let name = devices.entry(index).or_insert_with(|| {
            let name = if_indextoname(index).ok();
            let name = name.and_then(|name| name.into_string().ok());
            name.unwrap_or_else(|| format!("#{index}"))
        });
        name.clone()
    }
}
