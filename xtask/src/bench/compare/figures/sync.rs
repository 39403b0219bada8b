//! All Services at once.

use anyhow::Result;

use super::super::{
    super::stand::{Size, Stand},
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
     lists from an API server, until its maps have them. For rules, `iptables-restore \
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
        let took = if *variant == Variant::Tc {
            Stand::new(&agent, size(services))?.first_sync
        } else {
            last.retain(|it| it.variant != *variant);
            let loaded = Loaded::new(*variant, services)?;
            let took = loaded.took;
            last.push(loaded);
            took
        };
        Ok(vec![value("time", "s", took.as_secs_f64())])
    })?;
    session.add(Name::Sync, rows)?;
    Ok(last)
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
