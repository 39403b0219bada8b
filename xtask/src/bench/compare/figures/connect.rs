//! Short connections: their rate, and what each takes.

use anyhow::Result;

use super::super::{
    super::report::{Goal, Row},
    lab::{Call, Lab},
    load::{self, Load},
    plan::Session,
    turns::{self, Contender, Value, value},
    variant::Variant,
};
use super::{Name, better, of_limit, ratios};

pub(super) const ABOUT: (&str, &str) = (
    "Connect, request, close",
    "A process in a Pod of node1 connects to a server in a Pod of node2, sends four bytes, reads \
     four, and closes, 500 times one after the other; client and server share one CPU, so that \
     the rate is the inverse of all work on the way. The limit is the Pod directly in a lab \
     without a proxy, and without connection tracking. \"Pod\" elsewhere is the Pod directly \
     with the agent on both nodes. Through a ClusterIP, the Service that is called is the first, \
     the middle or the last of all; all others have ten endpoints.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "Profiled by `kernel.bpf_stats_enabled` and `perf record`: a connection is ten packets, which \
    pass forty programs on two nodes. These take some 10 of the 15 to 20 µs that are lost, 150 to \
    350 ns each with what counting costs, where repeated runs take 20 to 110. The Pod that is \
    called directly is an endpoint, too: its connections are noted on both nodes, so that no \
    translated flow takes their tuple, and two thirds of a note's time are the wait for its bucket \
    of the flow table. To try: what \"Cost of a packet\" says of the table's memory.";

/// The Pod directly.
const POD: &str = "Pod";
/// Through the Service.
const CLUSTER_IP: &str = "ClusterIP";

/// Measures in labs that stand side by side; also the first packets.
pub(in super::super) fn measure(
    session: &mut Session,
    labs: &mut [Lab],
    load: &Load,
) -> Result<()> {
    let mut contenders = Vec::new();
    for (number, lab) in labs.iter().enumerate() {
        let call = |to| Call { lab: number, to };
        let variant = lab.variant;
        if variant == Variant::None || variant.options().is_some() {
            let pod = Contender::new(variant, POD, call(load::direct())).among(load.services);
            contenders.push(if variant == Variant::None {
                pod.limit()
            } else {
                pod
            });
        }
        if variant != Variant::None {
            for (position, address) in &load.probes {
                let service = Contender::new(variant, CLUSTER_IP, call(*address));
                contenders.push(service.among(load.services).at(*position));
            }
        }
    }
    let what = format!("connect, {} Services", load.services);
    let rounds = session.plan.connect_rounds;
    let rows = turns::take(&what, rounds, &contenders, &session.clock, |call| {
        run(&mut labs[call.lab], call, session.plan.connections)
    })?;
    let (mut first, connect): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| row.aspect.starts_with(HANDSHAKE));
    for row in &mut first {
        row.aspect = row.aspect.trim_start_matches(HANDSHAKE).to_owned();
    }
    session.add(Name::Connect, connect)?;
    session.add(Name::FirstPacket, first)
}

/// What aspects of the first packet begin with, until they are in a figure of their own.
const HANDSHAKE: &str = "handshake ";

fn run(lab: &mut Lab, call: &Call, connections: u32) -> Result<Vec<Value>> {
    let connected = lab.client.connect(call.to, connections)?;
    let microseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
    let [p50, p99] = connected.whole.map(microseconds);
    let [first, late] = connected.handshake.map(microseconds);
    Ok(vec![
        value("rate", "1/s", connected.rate),
        value("p50", "µs", p50),
        value("p99", "µs", p99),
        value("handshake p50", "µs", first),
        value("handshake p99", "µs", late),
    ])
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let wanted =
        |text, at_least, variant, to| of_limit(text, at_least, ratios(rows, variant, to, "rate"));
    [
        wanted("rate by the socket path", 0.98, "socket", CLUSTER_IP),
        wanted("rate by the TC path", 0.95, "TC", CLUSTER_IP),
        wanted("rate to the Pod, socket path on", 0.99, "socket", POD),
        wanted("rate to the Pod, socket path off", 0.99, "TC", POD),
        better(
            "rate above iptables and nftables at every N",
            rows,
            "rate",
            &["TC", "socket"],
            &["iptables", "nftables"],
            true,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
