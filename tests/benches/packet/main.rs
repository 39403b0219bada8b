//! What the programs cost a packet: test runs in the kernel (`BPF_PROG_TEST_RUN`), over those
//! of a program that does nothing.
//!
//! A packet must not be one that an earlier run has translated. So a run either leaves its
//! packet as it was (a plain one; one whose endpoint has the frontend's very address, so that
//! all work is done and nothing changes), and is repeated by the kernel, or each run gets a
//! copy of the packet by a system call of its own. The latter is the longer one: between two
//! packets the processor has done something else, as in real traffic.

mod cases;
mod listener;
mod node;
mod program;
mod report;
#[path = "../../tests/kernel_agrees/writes.rs"]
mod writes;

use std::mem;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use proxy_tests::lab::{Directory, Namespace};

use cases::cases;
use node::Node;
use program::Empty;
use report::Costs;

/// What the programs cost a packet, in nanoseconds over a program that does nothing
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each case is measured; the median of that is told
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: u32,
    /// How many flows and frontends fill the tables
    #[arg(long, value_enum, default_value_t = Content::Both)]
    content: Content,
    /// Whether somebody listens to what the programs tell (`proxy-agent trace`)
    #[arg(long)]
    traced: bool,
    /// What becomes of new connections whose endpoint does not answer
    #[arg(long, value_enum, default_value_t = Unanswered::Avoid)]
    unanswered: Unanswered,
    /// Only cases whose path has this in its name, as "new flow"
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    only: String,
    /// How the results are printed
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// What cargo tells a benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

/// Contents of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Content {
    /// A few, which stay in the processor's caches
    Warm,
    /// 60,000 flows, taken in turn, and 100,000 frontends
    Cold,
    /// The one and then the other
    Both,
}

/// The agent's setting of this name; to the programs its other value `retry` is as `avoid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Unanswered {
    /// They go on as they are
    Off,
    /// They go to another one
    Avoid,
}

/// Forms of the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table, for people
    Table,
    /// One JSON object
    Json,
}

/// How full the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fill {
    name: &'static str,
    flows: usize,
    frontends: u32,
    /// Records that the flow table is made for; few enough buckets get full by the flows that runs
    /// make.
    records: u32,
}

const WARM: Fill = Fill {
    name: "warm",
    flows: 1,
    frontends: 100,
    // As many as the agent has at least.
    records: 131_072,
};
const COLD: Fill = Fill {
    name: "cold",
    flows: 60_000,
    frontends: 100_000,
    records: 524_288,
};

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "there is nothing to measure");
    let directory = Directory::create()?;
    let namespaces = Namespace::create(directory.name(), &["run"])?;
    node::lay_out(&namespaces[0])?;
    let fills: &[_] = match arguments.content {
        Content::Warm => &[WARM],
        Content::Cold => &[COLD],
        Content::Both => &[WARM, COLD],
    };
    let costs = namespaces[0].run(|| -> Result<_> {
        program::stay_on_one_cpu()?;
        let mut costs = Vec::new();
        for fill in fills {
            eprintln!(
                "{}: {} flows, {} frontends",
                fill.name, fill.flows, fill.frontends
            );
            costs.extend(measure(*fill, &arguments)?);
        }
        Ok(costs)
    })??;
    match arguments.output {
        Output::Table => report::print_table(&costs),
        Output::Json => println!("{}", report::json(&costs)?),
    }
    Ok(())
}

/// Measures every case once a round, and the empty programs beside them.
fn measure(fill: Fill, arguments: &Arguments) -> Result<Vec<Costs>> {
    let rounds = arguments.rounds;
    let mut node = Node::new(fill, arguments.unanswered)?;
    let mut cases = cases(fill);
    cases.retain(|case| case.path.contains(&arguments.only));
    ensure!(
        !cases.is_empty(),
        "no case has \"{}\" in its path",
        arguments.only
    );
    let empty = Empty::load()?;
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for (case, found) in cases.iter_mut().zip(&mut found) {
            let packets = case.packets(&mut node);
            if arguments.traced {
                node.listen()?;
            }
            let base = empty.measure(case.kind(), &packets, case.runs)?;
            let cost = node.measure(case, &packets)?;
            found.push(cost - base);
        }
    }
    let pairs = cases.iter().zip(&mut found);
    let costs = pairs.map(|(case, found)| Costs::new(case, fill, mem::take(found)));
    Ok(costs.collect())
}
