//! All Services at once.

use std::time::Duration;

use anyhow::Result;

use super::super::{
    super::{
        report::{Goal, Row},
        stand::{Size, Stand},
    },
    load::ENDPOINTS,
    loaded::Loaded,
    plan::Session,
    turns::{self, Contender, value},
    variant::Variant,
};
use super::Name;

pub(super) const ABOUT: (&str, &str) = (
    "Full sync",
    "All Services with ten endpoints each. For the agent, from the start of its process, by all \
     lists from an API server, until its maps have them; and the part of it from the objects in \
     its memory to its maps, by `kubeproxy_sync_full_proxy_rules_duration_seconds`. For rules, `iptables-restore \
     --noflush` and `nft -f -` of the same state into a namespace that has none: without a \
     start, an API server, and the making of the rules, which kube-proxy has to do before.",
);

/// Measures with so many Services; the rules as they were loaded last.
pub(in super::super) fn measure(session: &mut Session, services: u32) -> Result<Vec<Loaded>> {
    let variants = [
        (Variant::Tc, "agent's start to its maps"),
        (Variant::Iptables, "iptables-restore"),
        (Variant::Nftables, "nft -f"),
    ];
    let contenders: Vec<_> = variants
        .into_iter()
        .filter(|(variant, _)| session.plan.bears(*variant, services))
        .map(|(variant, what)| Contender::new(variant, what, variant).among(services))
        .collect();
    let what = format!("sync, {services} Services");
    let agent = session.agent.clone();
    let rounds = session.plan.sync_rounds(services);
    let mut last: Vec<Loaded> = Vec::new();
    let rows = turns::take(&what, rounds, &contenders, &session.clock, |variant| {
        let seconds = |aspect, took: Duration| value(aspect, "s", took.as_secs_f64());
        if *variant == Variant::Tc {
            let stand = Stand::new(&agent, size(services))?;
            let programming = seconds("from memory", stand.first_programming()?);
            return Ok(vec![seconds("time", stand.first_sync), programming]);
        }
        last.retain(|it| it.variant != *variant);
        let loaded = Loaded::new(*variant, services)?;
        let took = loaded.took;
        last.push(loaded);
        Ok(vec![seconds("time", took)])
    })?;
    session.add(Name::Sync, rows)?;
    Ok(last)
}

/// With so many Services, at most so many seconds for each aspect.
const GOALS: [(u32, &str, f64); 2] = [(10_000, "from memory", 0.1), (10_000, "time", 1.0)];

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let goals = GOALS.into_iter().filter_map(|(services, aspect, most)| {
        let is_it = |row: &&Row| {
            let is_agent = row.variant == Variant::Tc.name();
            is_agent && row.services == Some(services) && row.aspect == aspect
        };
        let found = rows.iter().find(is_it)?.value.median;
        Some(Goal {
            text: format!("{services} Services, {aspect}: at most {most} s"),
            found: format!("{found:.3} s"),
            met: found <= most,
        })
    });
    goals.collect()
}

/// So many Services of ten endpoints.
pub(super) fn size(services: u32) -> Size {
    Size {
        services,
        endpoints: ENDPOINTS,
        dual_stack: false,
        paged: false,
    }
}
