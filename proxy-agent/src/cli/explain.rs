//! The command `explain`: what becomes of a packet.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::list::Format;
use super::output::{self, MapsArgs, OutputArgs};
use super::rows::{NONE, duration, yes};
use super::status::SocketArgs;
use super::table::{Column, Table};
use crate::attach::OutputDevices;
use crate::inspect::State;
use crate::inspect::explain::{Comparison, Explanation, Question, explain, know_routes, meaning};
use crate::maps::PinnedMaps;
use crate::model::object::{Family, Protocol};
use crate::serve;

/// The source port of a packet where none is given: the first that Linux gives
/// (`net.ipv4.ip_local_port_range`).
const SOURCE_PORT: u16 = 32_768;

/// The packet, and how to print.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Who sends it: an address, or address and port. The port has a part in which endpoint is
    /// selected.
    #[arg(value_name = "SRC")]
    source: Source,

    /// Where it is sent to: address, port and protocol, which is TCP where none is given.
    #[arg(value_name = "DST:PORT/PROTO")]
    destination: Destination,

    #[command(flatten)]
    maps: MapsArgs,

    #[command(flatten)]
    socket: SocketArgs,

    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug)]
struct Source(SocketAddr);

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.parse::<IpAddr>();
        let address = address.map(|address| SocketAddr::new(address, SOURCE_PORT));
        address
            .or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| "a source is such as 192.0.2.1, 192.0.2.1:40000 or [2001:db8::1]:40000")
    }
}

#[derive(Clone, Copy, Debug)]
struct Destination(SocketAddr, Protocol);

impl FromStr for Destination {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HOW: &str = "a destination is such as 10.96.0.10:53/udp or [fd00::a]:80/tcp";
        let (end, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(HOW),
        };
        let end = end.parse().map_err(|_| HOW)?;
        Ok(Self(end, protocol))
    }
}

/// Explains; a good answer is that the packet is for a Service.
pub(super) fn run(args: &ExplainArgs) -> ExitCode {
    let Destination(destination, protocol) = args.destination;
    let question = Question {
        source: args.source.0,
        destination,
        protocol,
    };
    output::run(&args.output, |out| {
        let families = [question.source, destination].map(|it| Family::of(it.ip()));
        ensure!(
            families[0] == families[1],
            "source and destination are of two IP families"
        );
        let mut maps = PinnedMaps::open(&args.maps.bpffs)?;
        let state = State::read(&mut maps)?;
        let mut copies = maps.memory()?;
        let devices = OutputDevices::open().context("cannot ask for routes")?;
        know_routes(&mut copies, move |to| devices.towards(to));
        let mut explanation = explain(question, &state, &mut copies, |it| maps.refresh(it))?;
        // Without an agent the maps are all that there is.
        let desired = serve::desired(&args.socket.socket, destination, protocol);
        explanation.desired = desired.ok().map(|it| Comparison::new(&explanation, it));
        match args.output.output {
            Format::Json => {
                serde_json::to_writer_pretty(&mut *out, &explanation)?;
                writeln!(out)?;
            }
            Format::Table | Format::Wide => write!(out, "{}", text(&explanation))?,
        }
        Ok(explanation.frontend.is_some())
    })
}

/// An explanation for people.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut text = String::new();
    // To a text nothing fails.
    let _ = write_text(explanation, &mut text);
    text
}

fn write_text(explanation: &Explanation, text: &mut String) -> fmt::Result {
    let Question {
        source,
        destination,
        protocol,
    } = explanation.packet;
    writeln!(text, "Packet:    {source} to {destination}, {protocol}")?;
    let Some(found) = &explanation.frontend else {
        writeln!(text, "Frontend:  none, no Service is reached there")?;
        text.write_str(&desired(explanation))?;
        text.write_str("\n")?;
        return text.write_str(&paths(explanation));
    };
    writeln!(text, "Service:   {}", found.service)?;
    let frontend = &found.frontend;
    write!(
        text,
        "Frontend:  {} {}, traffic policy {}",
        frontend.kind,
        frontend.address_and_port(),
        frontend.traffic_policy
    )?;
    if frontend.restricted {
        write!(text, ", for its source ranges only")?;
    }
    if found.affinity_seconds > 0 {
        let time = duration(found.affinity_seconds.into());
        write!(text, ", session affinity for {time}")?;
    }
    writeln!(text)?;
    match &explanation.flow {
        None => writeln!(text, "Flow:      none, this packet begins one")?,
        Some(flow) => {
            let endpoint = flow.endpoint.map(|it| it.to_string());
            writeln!(
                text,
                "Flow:      {} to {}, idle for {}",
                flow.state,
                endpoint.unwrap_or_else(|| "?".to_owned()),
                duration(flow.idle_seconds)
            )?;
        }
    }
    text.write_str(&desired(explanation))?;
    text.write_str("\n")?;
    text.write_str(&endpoints(explanation))?;
    text.write_str("\n")?;
    text.write_str(&paths(explanation))
}

/// How the maps agree with what should be served.
fn desired(explanation: &Explanation) -> String {
    let Some(comparison) = &explanation.desired else {
        return "Desired:   not known, no agent answers\n".to_owned();
    };
    let differences = &comparison.differences;
    match (differences.is_empty(), comparison.desired.is_pending) {
        (true, _) => "Desired:   what the maps have\n".to_owned(),
        (false, is_pending) => {
            let why = if is_pending {
                "changes are on their way"
            } else {
                "`proxy-agent verify` repairs the maps"
            };
            let lines = differences.iter().map(|it| format!("           {it}\n"));
            format!("Desired:   something else ({why}):\n") + &lines.collect::<String>()
        }
    }
}

/// The endpoints, each with what keeps new connections from it.
fn endpoints(explanation: &Explanation) -> String {
    let columns = [
        Column::text("ENDPOINT"),
        Column::text("LOCAL"),
        Column::state("STATE"),
        Column::text("CANDIDATE ON"),
        Column::text("DESIRED"),
    ];
    let standing = |endpoint| {
        let comparison = explanation.desired.as_ref();
        let standing = comparison.and_then(|it| it.standing(endpoint));
        standing.unwrap_or(NONE).to_owned()
    };
    let rows = explanation.endpoints.iter().map(|row| {
        let paths = explanation.paths.iter();
        let paths = paths.filter(|path| path.candidates.contains(&row.endpoint));
        let paths: Vec<_> = paths.map(|path| path.path).collect();
        let all = paths.len() == explanation.paths.len();
        let on = match (paths.is_empty(), all) {
            (true, _) => "none".to_owned(),
            (_, true) => "all paths".to_owned(),
            _ => paths.join(", "),
        };
        vec![
            row.endpoint.to_string(),
            yes(row.local),
            row.state.to_owned(),
            on,
            standing(row.endpoint),
        ]
    });
    let comparison = explanation.desired.iter();
    let absent = comparison.flat_map(|it| it.endpoints_beside(&explanation.endpoints));
    let rows = rows.chain(absent.map(|it| {
        vec![
            it.endpoint.to_string(),
            yes(it.local),
            "not programmed".to_owned(),
            "none".to_owned(),
            standing(it.endpoint),
        ]
    }));
    let table = Table::text(&columns, rows, None);
    if table.is_empty() {
        "No endpoints.\n".to_owned()
    } else {
        table
    }
}

fn paths(explanation: &Explanation) -> String {
    let columns = [
        Column::text("PATH"),
        Column::state("VERDICT"),
        Column::text("BY"),
        Column::text("SOURCE"),
        Column::text("DESTINATION"),
        Column::text("REASONS"),
    ];
    let rows = explanation.paths.iter().map(|path| {
        let by = match (path.path.ends_with("socket"), path.xdp_can) {
            (true, _) => "socket",
            (false, true) => "XDP or TC",
            (false, false) => "TC",
        };
        let changed = |after: SocketAddr, before: SocketAddr| {
            if after == before {
                "unchanged".to_owned()
            } else {
                after.to_string()
            }
        };
        let reasons = path.reasons.join(", ");
        vec![
            path.path.to_owned(),
            path.verdict.to_owned(),
            by.to_owned(),
            changed(path.source, explanation.packet.source),
            changed(path.destination, explanation.packet.destination),
            reasons,
        ]
    });
    Table::text(&columns, rows, None) + &reasons(explanation)
}

/// What the reasons mean.
fn reasons(explanation: &Explanation) -> String {
    let reasons = explanation.paths.iter().flat_map(|path| &path.reasons);
    let reasons: BTreeSet<_> = reasons.collect();
    let meanings = reasons.into_iter().filter_map(|reason| {
        let meaning = meaning(reason)?;
        Some(format!("\n{reason}: {meaning}"))
    });
    let meanings: String = meanings.collect();
    if meanings.is_empty() {
        meanings
    } else {
        meanings + "\n"
    }
}
