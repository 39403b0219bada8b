//! What the programs cost a packet of real traffic, as the kernel counts it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};

use super::super::{
    super::{
        kernel::{self, Runs},
        report::{Row, Spread},
    },
    lab::Lab,
    load::{self, LOCAL_NODE_PORT, REMOTE_NODE_PORT},
    plan::Session,
};
use super::{
    Name,
    udp::{self, Flood},
};

/// Less is not the traffic's, but a neighbour's question for an address.
const LEAST_RUNS: u64 = 1000;

/// A program of a node, and its nanoseconds a run in each round.
type Found = BTreeMap<(usize, String), Vec<f64>>;

/// Measures in labs with an agent.
pub(in super::super) fn measure(session: &mut Session, labs: &mut [Lab]) -> Result<()> {
    let ways = [
        ("Pod to Pod", load::direct_datagrams(2), 2, false),
        ("NodePort, local", load::node_port(LOCAL_NODE_PORT), 1, true),
        (
            "NodePort, remote",
            load::node_port(REMOTE_NODE_PORT),
            2,
            true,
        ),
    ];
    // Its counting, too, costs something: it is off in all other figures.
    let counting = enable_stats(Stats::RunTime).context("BPF_ENABLE_STATS")?;
    let mut rows = Vec::new();
    for (way, to, node, is_from_outside) in ways {
        for (lab, it) in labs.iter_mut().enumerate() {
            if it.agents.is_empty() {
                continue;
            }
            let variant = it.variant.name();
            session
                .clock
                .progress(&format!("programs, {way}, {variant}"));
            let flood = Flood {
                lab,
                to,
                node,
                is_from_outside,
            };
            let found = run(session, it, &flood)?;
            let value = |values: &[f64]| Spread::of(values).context("no round");
            for ((node, program), values) in found {
                rows.push(Row {
                    variant: program,
                    to: format!("datagrams, {way}, {variant}, node{node}"),
                    aspect: "cost".to_owned(),
                    unit: "ns".to_owned(),
                    value: value(&values)?,
                    ..Row::default()
                });
            }
        }
    }
    drop(counting);
    session.add(Name::Packet, rows)
}

fn run(session: &Session, lab: &mut Lab, flood: &Flood) -> Result<Found> {
    let (rounds, milliseconds) = session.plan.udp;
    let mut found = Found::new();
    for _ in 0..rounds {
        let before = runs(lab)?;
        udp::run(lab, flood, milliseconds)?;
        for (program, after) in runs(lab)? {
            let before = before.get(&program).copied().unwrap_or_default();
            let count = after.count - before.count;
            if count >= LEAST_RUNS {
                // Many processors together run for longer than 32 bits of nanoseconds.
                let time = Duration::from_nanos(after.nanoseconds - before.nanoseconds);
                let count = f64::from(u32::try_from(count)?);
                let cost = time.as_secs_f64() * 1e9 / count;
                found.entry(program).or_default().push(cost);
            }
        }
    }
    Ok(found)
}

/// The runs of all programs of all nodes so far.
fn runs(lab: &Lab) -> Result<BTreeMap<(usize, String), Runs>> {
    let mut all = BTreeMap::new();
    for (node, agent) in (1..).zip(&lab.agents) {
        let runs = kernel::runs_of_programs(agent.id())?;
        all.extend(
            runs.into_iter()
                .map(|(program, runs)| ((node, program), runs)),
        );
    }
    Ok(all)
}
