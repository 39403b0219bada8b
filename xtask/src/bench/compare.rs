//! The comparison: no proxy at all, kube-proxy's rules, and the agent's paths, in labs that
//! stand side by side.

mod clock;
mod figures;
mod lab;
mod load;
mod loaded;
mod plan;
mod turns;
mod variant;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::report::{Machine, Report, machine, markdown, svg};
use crate::{command, interrupt, paths, terminal};
use figures::Name;
use lab::Cables;
pub(super) use lab::load_rules;
use load::Load;
pub(super) use load::rules_node;
use plan::{Plan, Session};
pub(super) use variant::Variant;

/// The page, and the folder of its plots beside it.
const PAGE: &str = "docs/BENCHMARKS.md";
const PLOTS: &str = "benchmarks";

/// What to compare, and what becomes of it.
#[derive(Debug, Default, Args)]
pub(crate) struct CompareArgs {
    /// Fewer Services and fewer rounds: less than five minutes
    #[arg(long)]
    quick: bool,
    /// Only these figures
    #[arg(long, value_name = "FIGURE", value_enum, value_delimiter = ',')]
    only: Vec<Name>,
    /// With so many Services, in place of 1, 100, 1,000, 5,000, 10,000 and 30,000
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: Vec<u32>,
    /// Write the report to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write plots to this folder
    #[arg(long, value_name = "DIR")]
    svg: Option<PathBuf>,
    /// Compare this agent in place of the one that is built here
    #[arg(long, value_name = "FILE")]
    pub(super) agent: Option<PathBuf>,
    /// Measure nothing: write docs/BENCHMARKS.md and its plots from this report
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "only", "services", "json", "svg", "agent"])]
    pub(super) report: Option<PathBuf>,
}

impl CompareArgs {
    /// The command that measures these figures, without where results go.
    fn command(&self, only: &[String]) -> String {
        let mut words = vec!["cargo xtask bench".to_owned()];
        if self.quick {
            words.push("--quick".to_owned());
        }
        if !only.is_empty() {
            words.push(format!("--only {}", only.join(",")));
        }
        if !self.services.is_empty() {
            let services = self.services.iter().map(u32::to_string);
            words.push(format!(
                "--services {}",
                services.collect::<Vec<_>>().join(",")
            ));
        }
        if self.agent.is_some() {
            words.push("--agent FILE".to_owned());
        }
        words.join(" ")
    }
}

/// Writes docs/BENCHMARKS.md and its plots from a report.
pub(super) fn write_page(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("{}: read", file.display()))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{}: not a report of this bench", file.display()))?;
    let page = paths::root().join(PAGE);
    write_plots(&report, &page.with_file_name(PLOTS))?;
    write(&page, &markdown::page(&report, PLOTS))?;
    terminal::item("written", PAGE);
    Ok(())
}

/// Compares, prints tables, and writes what was asked for.
pub(super) fn run(arguments: &CompareArgs, agent: &Path) -> Result<()> {
    interrupt::clean_up()?;
    let machine = Machine::this()?;
    if machine.load[0] > f64::from(u32::try_from(machine.cores)?) / 2.0 {
        terminal::note("other work keeps this machine busy, and will be measured as well");
    }
    let date = command::output(Command::new("date").args(["--utc", "+%FT%TZ"]));
    let mut session = Session::begin(Plan::of(arguments), agent);
    let measured = measure(&mut session);
    terminal::progress("");
    let report = report(arguments, session, machine, date)?;
    // What was measured before something failed counts, too.
    if let Some(file) = &arguments.json {
        write(file, &(serde_json::to_string_pretty(&report)? + "\n"))?;
    }
    measured?;
    if let Some(folder) = &arguments.svg {
        write_plots(&report, folder)?;
    }
    print(&report);
    Ok(())
}

/// All figures that are wanted.
fn measure(session: &mut Session) -> Result<()> {
    for services in session.plan.services.clone() {
        in_pods(session, services)?;
    }
    let with_datagrams = [Name::Udp, Name::Plain, Name::Packet];
    if with_datagrams.iter().any(|it| session.wants(*it)) {
        datagrams(session)?;
    }
    for services in session.plan.services.clone() {
        let loaded = if session.wants(Name::Sync) {
            figures::sync::measure(session, services)?
        } else {
            Vec::new()
        };
        if session.wants(Name::Change) {
            figures::change::measure(session, services, loaded)?;
        }
    }
    if session.wants(Name::Packet) {
        figures::packet::measure(session)?;
    }
    if session.wants(Name::Memory) {
        figures::memory::measure(session)?;
    }
    if session.wants(Name::Rest) {
        let services = session.plan.for_flows();
        figures::rest::measure(session, services)?;
    }
    Ok(())
}

/// What is measured from Pod to Pod, over the cables that Pods have.
fn in_pods(session: &mut Session, services: u32) -> Result<()> {
    let wants = |names: &[Name]| names.iter().any(|it| session.wants(*it));
    let connect = wants(&[Name::Connect, Name::FirstPacket]);
    let is_for_flows = services == session.plan.for_flows();
    let throughput = is_for_flows && wants(&[Name::Throughput, Name::Plain]);
    if !connect && !throughput {
        return Ok(());
    }
    let load = Load::new(services)?;
    let all = [
        Variant::None,
        Variant::Iptables,
        Variant::Nftables,
        Variant::Tc,
        Variant::Socket,
    ];
    let variants = session.plan.variants(services, &all);
    let mut labs = lay_out(session, &variants, &load, Cables::Virtual)?;
    if connect {
        figures::connect::measure(session, &mut labs, &load)?;
    }
    if throughput {
        figures::throughput::measure(session, &mut labs, &load)?;
    }
    Ok(())
}

/// What is measured with datagrams, over cables that are like hardware.
fn datagrams(session: &mut Session) -> Result<()> {
    let services = session.plan.for_flows();
    let load = Load::new(services)?.with_node_ports();
    let all = [
        Variant::None,
        Variant::Iptables,
        Variant::Nftables,
        Variant::Tc,
        Variant::Xdp,
    ];
    let mut variants = session.plan.variants(services, &all);
    if ![Name::Udp, Name::Plain].iter().any(|it| session.wants(*it)) {
        variants.retain(|it| it.options().is_some());
    }
    let mut labs = lay_out(session, &variants, &load, Cables::LikeHardware)?;
    figures::udp::measure(session, &mut labs, &load)?;
    if session.wants(Name::Packet) {
        figures::traffic::measure(session, &mut labs)?;
    }
    Ok(())
}

fn lay_out(
    session: &Session,
    variants: &[Variant],
    load: &Load,
    cables: Cables,
) -> Result<Vec<lab::Lab>> {
    let lay_out = |variant: &Variant| {
        let (name, services) = (variant.name(), load.services);
        session
            .clock
            .progress(&format!("lays out {name} with {services} Services"));
        lab::Lab::new(*variant, load, cables, &session.agent)
    };
    variants.iter().map(lay_out).collect()
}

fn report(
    arguments: &CompareArgs,
    session: Session,
    mut machine: Machine,
    date: Option<String>,
) -> Result<Report> {
    machine.load[1] = machine::load()?;
    let mut describe = command::outside("git");
    describe.args(["describe", "--always", "--dirty", "--exclude=*"]);
    let mut figures = session.figures;
    figures.sort_by_key(|figure| {
        let names = <Name as clap::ValueEnum>::value_variants();
        names.iter().position(|name| name.text() == figure.name)
    });
    for figure in &mut figures {
        let name = std::slice::from_ref(&figure.name);
        figure.command = arguments.command(name);
    }
    let only: Vec<_> = arguments.only.iter().map(|it| it.text()).collect();
    Ok(Report {
        command: arguments.command(&only),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: match (&arguments.agent, command::output(&mut describe)) {
            (Some(_), _) => "not known, of an agent that was given".to_owned(),
            (None, Some(commit)) => commit,
            (None, None) => "not known".to_owned(),
        },
        date: date.unwrap_or_else(|| "at an unknown time".to_owned()),
        seconds: session.clock.elapsed().as_secs(),
        quick: arguments.quick,
        machine,
        figures,
    })
}

fn print(report: &Report) {
    println!("{}", markdown::this_machine(&report.machine));
    for figure in &report.figures {
        terminal::heading(&figure.title);
        print!("{}", markdown::table(figure));
        for goal in &figure.goals {
            let text = format!("{}: {}", goal.text, goal.found);
            if goal.met {
                println!("  {} {text}", terminal::green("met   "));
            } else {
                println!("  {} {text}", terminal::red("missed"));
            }
        }
    }
}

fn write_plots(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: mkdir", folder.display()))?;
    for plot in report.figures.iter().flat_map(svg::plots) {
        write(&folder.join(&plot.file), &plot.draw()?)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("{}: write", file.display()))
}
