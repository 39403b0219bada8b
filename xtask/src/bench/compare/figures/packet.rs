//! What the programs cost a packet.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::super::{
    super::report::{Goal, Row, Spread},
    plan::Session,
};
use super::Name;
use crate::command;

pub(super) const ABOUT: (&str, &str) = (
    "Cost of a packet",
    "Test runs of the programs in the kernel (`BPF_PROG_TEST_RUN`), in nanoseconds over those of \
     a program that does nothing, one after the other, on one CPU. Repeated runs are the \
     kernel's, of a packet that no run changes; single ones are a system call each with a fresh \
     copy of the packet, and tell the median, since between two of them the processor does \
     something else, as in real traffic. Cold tables hold 60,000 flows of each IP version, which \
     take turns, and 100,000 frontends. Datagrams are real traffic in the labs of \"Small \
     datagrams\": the mean time of a program's run, of flows that are known, as the kernel counts \
     it (`BPF_ENABLE_STATS`), with what its counting costs.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "A packet of a known flow costs little more than 100 ns when it is run again and again \
    (`repeated`), and as much again where a system call was in between: code and maps come from \
    farther caches then. Of a new flow's time more than half are waits for memory at three places, \
    as `perf record` says of these test runs: the buckets of its two tuples, each somewhere in a \
    table of tens of megabytes, and the line of the record; on a virtual machine, whose pages are \
    translated twice, such a wait takes 100 to 440 ns. The rest are seven programs. To try: a \
    table in memory of large pages (the kernel gives arrays pages of 4 KiB, but small arrays, as \
    those in an array of maps, lie in memory that it maps by 2 MiB); both records of a flow in \
    one page; fewer stages on kernels whose verifier takes them.";

/// What the bench of programs prints for each path.
#[derive(Deserialize)]
struct Cost {
    hook: String,
    family: String,
    path: String,
    content: String,
    repeated: bool,
    /// Of each round, in nanoseconds.
    found: Vec<f64>,
}

/// Has the bench of the programs run, which is a program of its own: it loads them.
pub(in super::super) fn measure(session: &mut Session) -> Result<()> {
    session
        .clock
        .progress("packet: builds and runs the bench of the programs");
    let mut bench = command::cargo();
    // The kernel measures: how this program itself is optimised does not matter.
    bench.args(["bench", "--quiet", "--profile", "dev"]);
    bench.args(["--package", "proxy-tests", "--bench", "packet", "--"]);
    bench.args([
        "-o",
        "json",
        "--rounds",
        &session.plan.packet_rounds.to_string(),
    ]);
    bench.stderr(Stdio::null());
    let output = bench.output().context("cargo bench")?;
    anyhow::ensure!(
        output.status.success(),
        "`cargo xtask bench packet` fails: run it to see why"
    );
    let costs: Vec<Cost> = serde_json::from_slice(&output.stdout)?;
    let rows = costs.iter().map(row).collect::<Result<_>>()?;
    session.add(Name::Packet, rows)
}

fn row(cost: &Cost) -> Result<Row> {
    let Cost {
        hook,
        family,
        path,
        content,
        ..
    } = cost;
    let runs = if cost.repeated { "repeated" } else { "single" };
    Ok(Row {
        variant: hook.clone(),
        to: format!("{family}, {path}, {content}, {runs}"),
        aspect: "cost".to_owned(),
        unit: "ns".to_owned(),
        value: Spread::of(&cost.found).context("a cost of no round")?,
        ..Row::default()
    })
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let worst = |variant: &'static str, path: &'static str| {
        let is_it = move |row: &&Row| row.variant.starts_with(variant) && row.to.contains(path);
        let medians = rows.iter().filter(is_it).map(|row| row.value.median);
        medians.reduce(f64::max)
    };
    let wanted = [
        (
            "TC in, plain, repeated",
            "ingress",
            "plain UDP, warm, repeated",
            15.0,
        ),
        (
            "TC out, plain, repeated",
            "egress",
            "plain UDP, warm, repeated",
            15.0,
        ),
        (
            "XDP, plain, repeated",
            "xdp",
            "plain UDP, warm, repeated",
            15.0,
        ),
        (
            "TC, hit",
            "ingress",
            "hit, local endpoint, warm, single",
            100.0,
        ),
        ("XDP, hit", "xdp", "hit, local endpoint, warm", 70.0),
        (
            "TC, new flow",
            "ingress",
            "new flow, local endpoint, warm",
            350.0,
        ),
    ];
    let goals = wanted
        .into_iter()
        .filter_map(|(text, variant, path, most)| {
            let found = worst(variant, path)?;
            Some(Goal {
                text: format!("{text}: at most {most} ns over an empty program"),
                found: format!("{found:.0} ns"),
                met: found <= most,
            })
        });
    goals.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bench_prints_becomes_rows() {
        let printed = r#"{"hook": "xdp_outside", "family": "IPv4", "path": "plain UDP",
            "content": "warm", "repeated": true, "found": [9.0, 11.0, 30.0]}"#;
        let row = row(&serde_json::from_str(printed).unwrap()).unwrap();
        assert_eq!(row.to, "IPv4, plain UDP, warm, repeated");
        assert_eq!((row.value.median, row.value.max), (11.0, 30.0));
        let goals = goals(&[row]);
        assert_eq!(goals.len(), 1);
        assert!(goals[0].met);
    }
}
