//! TCP throughput.

use std::{net::SocketAddrV4, time::Duration};

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::{Namespace, Process};
use serde_json::Value as Json;

use super::super::{
    super::{
        objects::ENDPOINT_PORT,
        report::{Goal, Row},
    },
    lab::Lab,
    load::{self, Load},
    plan::Session,
    turns::{self, Contender, value},
    variant::Variant,
};
use super::{Name, of_limit, ratios};

pub(super) const ABOUT: (&str, &str) = (
    "Throughput",
    "`iperf3` from a Pod of node1 to a Pod of node2, with one stream and with eight, directly \
     and through the ClusterIP of the last Service; client and server each have a CPU \
     (`--affinity`). The cables are veth devices, over which segments of up to 64 KiB go as \
     they are.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "Rounds differ by more than what is missed. Segments of up to 64 KiB pass as one packet, so \
    that the programs run some ten thousand times a second.";

/// Parallel streams.
const STREAMS: [(u32, &str); 2] = [(1, "one stream"), (8, "eight streams")];
/// How long iperf3's server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// One run of iperf3.
struct Run {
    lab: usize,
    to: SocketAddrV4,
    streams: u32,
}

/// Measures in labs that stand side by side, whose servers are exchanged for iperf3's; also
/// the Pod directly with and without the agent.
pub(in super::super) fn measure(
    session: &mut Session,
    labs: &mut [Lab],
    load: &Load,
) -> Result<()> {
    let mut servers = Vec::new();
    for lab in &mut *labs {
        lab.servers[1] = None;
        servers.push(serve(&lab.cluster.pod(2, 1).namespace)?);
    }
    let last = load.probes.last().context("no Service is called")?.1;
    let (mut plain, mut rows) = (Vec::new(), Vec::new());
    for (streams, name) in STREAMS {
        let run = |lab, to| Run { lab, to, streams };
        let mut contenders = Vec::new();
        for (number, lab) in labs.iter().enumerate() {
            let variant = lab.variant;
            if variant == Variant::None || variant.options().is_some() {
                let to = format!("Pod, {name}");
                let pod = Contender::new(variant, &to, run(number, load::direct()));
                contenders.push(if variant == Variant::None {
                    pod.limit()
                } else {
                    pod
                });
            }
            if variant != Variant::None {
                let to = format!("ClusterIP, {name}");
                let service = Contender::new(variant, &to, run(number, last));
                contenders.push(service.among(load.services));
            }
        }
        let what = format!("throughput, {name}");
        let (rounds, seconds) = session.plan.throughput;
        let found = turns::take(&what, rounds, &contenders, &session.clock, |run| {
            let client = &labs[run.lab].cluster.pod(1, 1).namespace;
            let rate = iperf(client, run, seconds)?;
            Ok(vec![value("throughput", "Gbit/s", rate / 1e9)])
        })?;
        plain.extend(
            found
                .iter()
                .filter(|row| row.to.starts_with("Pod"))
                .cloned(),
        );
        rows.extend(found);
    }
    session.add(Name::Throughput, rows)?;
    session.add(Name::Plain, plain)
}

/// Where the Pod's server was.
fn serve(place: &Namespace) -> Result<Process> {
    let mut command = place.command("iperf3");
    command.args([
        "--server",
        "--forceflush",
        "--port",
        &ENDPOINT_PORT.to_string(),
    ]);
    let server = Process::spawn("iperf3's server", command)?;
    server.wait_for_line(PATIENCE, |line| line.contains("Server listening"))?;
    Ok(server)
}

/// Bits a second that the server took.
fn iperf(client: &Namespace, run: &Run, seconds: u32) -> Result<f64> {
    let mut command = client.command("iperf3");
    let last = super::super::lab::cpus() - 1;
    command.args(["--client", &run.to.ip().to_string()]);
    command.args(["--port", &run.to.port().to_string()]);
    command.args(["--time", &seconds.to_string()]);
    command.args(["--parallel", &run.streams.to_string()]);
    command.args(["--affinity", &format!("0,{}", last.min(1))]);
    command.args(["--connect-timeout", "3000", "--json"]);
    let output = command.output().context("iperf3")?;
    let report: Json = serde_json::from_slice(&output.stdout).context("iperf3: no JSON")?;
    let error = report["error"].as_str().unwrap_or_default();
    ensure!(output.status.success(), "iperf3: {error}");
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.with_context(|| format!("iperf3 tells no rate: {error}"))
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let wanted = |(variant, to, text): (_, &str, _)| {
        of_limit(text, 0.98, ratios(rows, variant, to, "throughput"))
    };
    [
        ("TC", "ClusterIP, one stream", "TC path, one stream:"),
        ("TC", "ClusterIP, eight streams", "TC path, eight streams:"),
        (
            "socket",
            "ClusterIP, one stream",
            "socket path, one stream:",
        ),
        (
            "socket",
            "ClusterIP, eight streams",
            "socket path, eight streams:",
        ),
    ]
    .into_iter()
    .filter_map(wanted)
    .collect()
}
