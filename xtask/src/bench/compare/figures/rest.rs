//! The agent while little or much changes, and its start.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::super::{
    super::{
        report::{Goal, Row},
        stand::Stand,
    },
    plan::Session,
    turns::{self, Contender, value},
    variant::Variant,
};
use super::{Name, sync::size};

pub(super) const ABOUT: (&str, &str) = (
    "At rest, and at the start",
    "CPU time of all of the agent's threads (/proc/PID/task/*/schedstat) in percent of one CPU: \
     while nothing changes, and while 20 and 1,000 endpoints change a second, each in an object \
     of its own; and the time from the start of the process to its first program on a device.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "Verifying the programs takes most of the start: 83 of them, on both CPUs. To try: those of direct \
    return only where a Service has it.";

/// Changes a second.
const RATES: [u32; 3] = [0, 20, 1000];
/// After the first sync, until what belongs to the start is over.
const SETTLE: Duration = Duration::from_secs(3);

pub(in super::super) fn measure(session: &mut Session, services: u32) -> Result<()> {
    session.clock.progress("rest");
    let mut stand = Stand::new(&session.agent, size(services))?;
    thread::sleep(SETTLE);
    let contenders = RATES.map(|rate| {
        let what = match rate {
            0 => "agent, no change".to_owned(),
            rate => format!("agent, {rate} changes a second"),
        };
        Contender::new(Variant::Tc, &what, rate).among(services)
    });
    let (rounds, span) = session.plan.rest;
    let mut rows = turns::take("rest", rounds, &contenders, &session.clock, |rate| {
        let before = cpu_time(stand.agent.id())?;
        let took = stand.change_at(*rate, span)?;
        let used = cpu_time(stand.agent.id())?.saturating_sub(before);
        let percent = used.as_secs_f64() / took.as_secs_f64() * 100.0;
        // A process that did nothing at all is possible, and no mistake.
        Ok(vec![value("CPU", "%", percent.max(1e-6))])
    })?;
    drop(stand);
    let start = Contender::new(Variant::Tc, "agent, start to first program", ()).among(2);
    let agent = session.agent.clone();
    let rounds = session.plan.start_rounds;
    rows.extend(turns::take(
        "start",
        rounds,
        &[start],
        &session.clock,
        |()| {
            let first = Stand::new(&agent, size(2))?.first_attached;
            Ok(vec![value("time", "s", first.as_secs_f64())])
        },
    )?);
    session.add(Name::Rest, rows)
}

/// What all threads of a process have used; threads that ended do not count.
fn cpu_time(pid: u32) -> Result<Duration> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut used = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| format!("{}: read", tasks.display()))? {
        let path = task?.path().join("schedstat");
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let nanoseconds = text.split(' ').next().unwrap_or_default().parse();
        used += Duration::from_nanos(nanoseconds.context("schedstat")?);
    }
    Ok(used)
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let of = |to: &str, most: f64, text: &str, unit: &str| {
        let found = rows.iter().find(|row| row.to == to)?.value.median;
        Some(Goal {
            text: text.to_owned(),
            found: format!("{found:.3} {unit}"),
            met: found < most,
        })
    };
    [
        of("agent, no change", 0.1, "below 0.1 % at rest", "%"),
        of(
            "agent, start to first program",
            1.0,
            "first program after less than 1 s",
            "s",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}
