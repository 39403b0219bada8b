//! The command `status`: how the agent and what it has programmed are, on one screen.

use std::fmt::{self, Write as _};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::list::Format;
use super::output::{self, MapsArgs, OutputArgs};
use super::rows::duration;
use super::style;
use super::table::{Column, Table};
use crate::config::DEFAULT_PROBE_SOCKET;
use crate::inspect::summary::MapsSummary;
use crate::maps::PinnedMaps;
use crate::serve::{self, LocalError};
use crate::status::{Condition, DeviceReport, DeviceRole, Map, Refused, StatusDocument};

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub(super) struct SocketArgs {
    /// The agent's own socket, its `--probe-socket`.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PROBE_SOCKET)]
    pub(super) socket: PathBuf,
}

/// Whom to ask, and how to print.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    socket: SocketArgs,

    #[command(flatten)]
    maps: MapsArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Asks the agent; where there is none, shows what the maps alone say.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    output::run(&args.output, |out| {
        match serve::status(&args.socket.socket) {
            Ok(status) => {
                print(out, &args.output, &status, text)?;
                Ok(status.condition == Condition::Ready.name())
            }
            Err(error) if error.means_no_agent() => without_agent(args, &error, out),
            Err(error) => Err(error.into()),
        }
    })
}

/// What is left where no agent answers: the node is not as it should be.
fn without_agent(args: &StatusArgs, error: &LocalError, out: &mut dyn Write) -> Result<bool> {
    let mut maps = PinnedMaps::open(&args.maps.bpffs).map_err(|maps| {
        let maps = anyhow::Error::from(maps);
        anyhow::anyhow!("no agent runs ({error}), and {maps:#}")
    })?;
    let summary = MapsSummary::read(&mut maps)?;
    print(out, &args.output, &summary, maps_text)?;
    Ok(false)
}

fn print<T: Serialize>(
    out: &mut dyn Write,
    args: &OutputArgs,
    document: &T,
    text: impl Fn(&T, &mut String) -> fmt::Result,
) -> Result<()> {
    match args.output {
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, document)?;
            writeln!(out)?;
        }
        Format::Table | Format::Wide => {
            let mut written = String::new();
            text(document, &mut written)?;
            out.write_all(written.as_bytes())?;
        }
    }
    Ok(())
}

/// What the maps say where no agent runs.
pub(super) fn maps_text(summary: &MapsSummary, text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "Agent:       not running; what it has pinned goes on serving, without any change"
    )?;
    let MapsSummary {
        services,
        service_ports,
        endpoints,
        ..
    } = summary;
    writeln!(
        text,
        "Programmed:  {services} Services ({service_ports} ports), {endpoints} endpoints"
    )?;
    writeln!(text)?;
    text.write_str(&maps(&summary.maps))
}

/// The status for people.
pub(super) fn text(status: &StatusDocument, text: &mut String) -> fmt::Result {
    let StatusDocument {
        condition,
        version,
        services,
        service_ports,
        endpoints,
        ..
    } = status;
    let uptime = duration(status.uptime_seconds);
    writeln!(
        text,
        "Agent:       {}, version {version}, up for {uptime}",
        style::state(condition)
    )?;
    let eligible = if status.node_eligible { "yes" } else { "no" };
    writeln!(text, "Node:        eligible for load balancers: {eligible}")?;
    writeln!(text, "Sync:        {}", sync(status))?;
    if let Some(seconds) = status.sync.pending_seconds {
        let (waits, limit) = (duration(seconds), duration(status.sync.timeout_seconds));
        writeln!(
            text,
            "Pending:     a change has been waiting for {waits}, healthy is up to {limit}"
        )?;
    }
    writeln!(
        text,
        "Programmed:  {services} Services ({service_ports} ports), {endpoints} endpoints"
    )?;
    writeln!(text, "API server:  {}", api_server(status))?;
    writeln!(text, "Sockets:     {}", sockets(status))?;
    writeln!(text)?;
    text.write_str(&devices(&status.devices))?;
    writeln!(text)?;
    text.write_str(&maps(&status.maps))?;
    writeln!(
        text,
        "(What packets and sockets fill, FLOWS, AFFINITY and SOCKETS, is counted once a minute.)"
    )?;
    if !status.refusals.is_empty() {
        writeln!(text)?;
    }
    text.write_str(&refusals(&status.refusals))
}

fn sync(status: &StatusDocument) -> String {
    let sync = &status.sync;
    let last = or_never(sync.last.as_ref());
    let since = match &sync.since {
        Some(since) => format!("in sync since {since}"),
        None => "not in sync".to_owned(),
    };
    format!("{since}, last update {last}")
}

fn api_server(status: &StatusDocument) -> String {
    let Some(server) = &status.api_server else {
        return "not asked, objects come from files".to_owned();
    };
    let last = or_never(server.last_answer.as_ref());
    match &server.failing_since {
        None => format!("{}, last answer {last}", server.host),
        Some(since) => format!("{}, failing since {since}, last answer {last}", server.host),
    }
}

fn sockets(status: &StatusDocument) -> String {
    let path = &status.socket_path;
    match (&path.cgroup, &path.why) {
        (Some(cgroup), _) => format!("{}, below {cgroup}", path.mode),
        (None, Some(why)) => format!("not served: {why}"),
        (None, None) => "not served".to_owned(),
    }
}

fn or_never(time: Option<&String>) -> &str {
    time.map_or("never", String::as_str)
}

fn devices(devices: &[DeviceReport]) -> String {
    let columns = [
        Column::text("DEVICE"),
        Column::text("ROLE"),
        Column::text("INGRESS"),
        Column::text("EGRESS"),
        Column::text("XDP"),
        Column::elastic("WHY NOTHING BETTER"),
    ];
    let rows = devices.iter().map(|device| {
        let role = match device.role {
            DeviceRole::Pod => "pod",
            DeviceRole::Outside => "outside",
        };
        let [ingress, egress] = &device.attached;
        let attached = |way: &Option<String>| way.clone().unwrap_or_else(|| "none".to_owned());
        vec![
            device.name.clone(),
            role.to_owned(),
            attached(ingress),
            attached(egress),
            if device.xdp { "yes" } else { "no" }.to_owned(),
            device.why.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    table(&columns, rows)
}

fn refusals(refusals: &[Refused]) -> String {
    let columns = [
        Column::text("LAST REFUSALS"),
        Column::text("OBJECT"),
        Column::text("REASON"),
        Column::elastic("NOTE"),
    ];
    let rows = refusals.iter().map(|refused| {
        vec![
            or_never(refused.time.as_ref()).to_owned(),
            refused.object.clone(),
            refused.reason.clone(),
            refused.note.clone(),
        ]
    });
    table(&columns, rows)
}

fn maps(maps: &[Map]) -> String {
    let columns = [
        Column::text("MAP"),
        Column::number("USED"),
        Column::number("CAPACITY"),
        Column::number("FULL"),
    ];
    let rows = maps.iter().map(|map| {
        let percent = (map.used * 100).checked_div(map.capacity).unwrap_or(0);
        vec![
            map.name.clone(),
            map.used.to_string(),
            map.capacity.to_string(),
            format!("{percent}%"),
        ]
    });
    table(&columns, rows)
}

fn table(columns: &[Column], rows: impl Iterator<Item = Vec<String>>) -> String {
    Table::text(columns, rows, Some(120))
}
