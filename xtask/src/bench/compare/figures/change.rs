//! One endpoint among many changes.

use std::{cell::RefCell, time::Duration};

use anyhow::Result;

use super::super::{
    super::{
        percentiles::Percentiles,
        report::{Goal, Row},
        stand::Stand,
    },
    loaded::Loaded,
    plan::Session,
    turns::{self, Contender, value},
    variant::Variant,
};
use super::{Name, sync::size};

pub(super) const ABOUT: (&str, &str) = (
    "One endpoint changes",
    "For the agent, from the call that changes one endpoint at the API server until packets \
     would find the new endpoint, with 20 changes a second: frontend, slots and backend are read \
     from the kernel. The server's own time, and up to 0.1 ms between two looks, are in it. For \
     rules, the time of `nft -f -` with the chain of the Service, and of `iptables-restore \
     --noflush` with what kube-proxy's partial sync writes: the list of all Services and the \
     chains of the one that changed. Neither has the watch, the making of the rules, or \
     kube-proxy's `minSyncPeriod` of a second in it.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "The time from the server's answer to the map was not told apart from the server's own and \
    from that of waking three processes on two CPUs. To try: the same with the agent's own clock.";

/// Changes a second, of the agent's.
const RATE: u32 = 20;
/// How long rules are changed in a round.
const SPAN: Duration = Duration::from_secs(5);

/// What is changed.
enum Target {
    Agent(Box<RefCell<Stand>>),
    Rules(RefCell<Loaded>),
}

/// Measures with so many Services, and with rules that are loaded already where there are some.
pub(in super::super) fn measure(
    session: &mut Session,
    services: u32,
    mut loaded: Vec<Loaded>,
) -> Result<()> {
    let what = format!("change, {services} Services");
    session.clock.progress(&what);
    let stand = Stand::new(&session.agent, size(services))?;
    let agent = Target::Agent(Box::new(RefCell::new(stand)));
    let mut contenders = vec![Contender::new(Variant::Tc, "agent's map", agent)];
    for variant in [Variant::Iptables, Variant::Nftables] {
        if session.plan.bears(variant, services) {
            let found = loaded.iter().position(|it| it.variant == variant);
            let rules = match found {
                Some(place) => loaded.swap_remove(place),
                None => Loaded::new(variant, services)?,
            };
            let rules = Target::Rules(RefCell::new(rules));
            contenders.push(Contender::new(variant, "partial sync", rules));
        }
    }
    let contenders: Vec<_> = contenders
        .into_iter()
        .map(|it| it.among(services))
        .collect();
    let (rounds, changes) = session.plan.changes;
    let rows = turns::take(&what, rounds, &contenders, &session.clock, |target| {
        let took = match target {
            Target::Agent(stand) => stand.borrow_mut().change_steadily(RATE, changes)?,
            Target::Rules(loaded) => loaded.borrow_mut().change_for(SPAN, changes)?,
        };
        let found = Percentiles::of(took);
        Ok(vec![
            value("p50", "ms", found.p50.as_secs_f64() * 1e3),
            value("p99", "ms", found.p99.as_secs_f64() * 1e3),
        ])
    })?;
    session.add(Name::Change, rows)
}

/// Milliseconds, whatever the number of Services.
const MOST: f64 = 1.0;

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let is_it = |row: &&Row| row.variant == Variant::Tc.name() && row.aspect == "p99";
    let worst = rows.iter().filter(is_it).map(|row| row.value.median);
    let goal = worst.reduce(f64::max).map(|found| Goal {
        text: format!("p99 at most {MOST} ms, whatever the number of Services"),
        found: format!("{found:.2} ms"),
        met: found <= MOST,
    });
    goal.into_iter().collect()
}
