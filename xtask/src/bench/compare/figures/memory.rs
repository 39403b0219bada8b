//! The agent's memory.

use anyhow::Result;

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
    "Memory",
    "`VmRSS` of /proc/PID/status three seconds after the first sync, the most that it was until \
     then (`VmHWM`), and what the kernel says that the agent's maps take; Services with ten \
     endpoints each.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "More than half of what 2 Services take are pages of the binary that were touched; the most that \
    it was is the object with its programs while they load, given back then. To try: a binary \
    without what only the command line needs.";

/// How many Services, and the goal in MiB.
const SIZES: [(u32, f64); 2] = [(2, 15.0), (10_000, 40.0)];
const MEBIBYTE: f64 = 1_048_576.0;

pub(in super::super) fn measure(session: &mut Session) -> Result<()> {
    let contenders =
        SIZES.map(|(services, _)| Contender::new(Variant::Tc, "agent", services).among(services));
    let agent = session.agent.clone();
    let rounds = session.plan.sync_rounds;
    let rows = turns::take("memory", rounds, &contenders, &session.clock, |services| {
        let stand = Stand::new(&agent, size(*services))?;
        let memory = stand.memory_at_rest()?;
        let mebibytes = |bytes| {
            Ok::<_, std::num::TryFromIntError>(
                f64::from(u32::try_from(bytes / 1024)?) * 1024.0 / MEBIBYTE,
            )
        };
        Ok(vec![
            value("resident", "MiB", mebibytes(memory.resident)?),
            value("at most", "MiB", mebibytes(memory.peak)?),
            value("maps", "MiB", mebibytes(stand.maps.bytes())?),
        ])
    })?;
    session.add(Name::Memory, rows)
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let goals = SIZES.into_iter().filter_map(|(services, most)| {
        let is_it = |row: &&Row| row.services == Some(services) && row.aspect == "resident";
        let found = rows.iter().find(is_it)?.value.median;
        Some(Goal {
            text: format!("{services} Services: at most {most} MiB resident"),
            found: format!("{found:.1} MiB"),
            met: found <= most,
        })
    });
    goals.collect()
}
