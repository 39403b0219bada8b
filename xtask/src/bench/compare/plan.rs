//! How much is measured, and what is found while it goes on.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use super::super::report::{Figure, Row, machine};
use super::{CompareArgs, clock::Clock, figures::Name, variant::Variant};

/// With more Services of ten endpoints, `iptables-restore` (1.8.9, nft backend) takes minutes.
const MOST_FOR_IPTABLES: u32 = 1_000;
/// With more Services, `nft -f` takes minutes for all labs (22 s for 10,000 once, and more than
/// in proportion).
const MOST_FOR_NFTABLES: u32 = 10_000;
/// With more Services, a full sync of rules is measured only once.
const MOST_SYNCED_AGAIN: u32 = 5_000;
/// As many Services as throughput and datagrams are measured with: neither depends on the
/// number once a flow is known.
const FOR_FLOWS: u32 = 1_000;
const QUICK_SERVICES: [u32; 2] = [1, 1_000];
const FULL_SERVICES: [u32; 6] = [1, 100, 1_000, 5_000, 10_000, 30_000];

/// How often, how long, and with how many Services.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) services: Vec<u32>,
    only: Vec<Name>,
    /// Connections of a run.
    pub(super) connections: u32,
    pub(super) connect_rounds: u32,
    /// Rounds, and seconds of each run.
    pub(super) throughput: (u32, u32),
    /// Rounds, and milliseconds of each run.
    pub(super) udp: (u32, u64),
    /// Where Services are few.
    pub(super) sync_rounds: u32,
    /// Rounds, and changes of each.
    pub(super) changes: (u32, u32),
    /// Rounds, and how long a rate of changes is held in each.
    pub(super) rest: (u32, Duration),
    pub(super) start_rounds: u32,
    pub(super) packet_rounds: u32,
}

impl Plan {
    pub(super) fn of(arguments: &CompareArgs) -> Self {
        let plan = if arguments.quick {
            Self::quick()
        } else {
            Self::full()
        };
        let mut services = arguments.services.clone();
        if services.is_empty() {
            services = plan.services;
        }
        services.sort_unstable();
        services.dedup();
        Self {
            services,
            only: arguments.only.clone(),
            ..plan
        }
    }

    fn full() -> Self {
        Self {
            services: FULL_SERVICES.to_vec(),
            only: Vec::new(),
            connections: 500,
            connect_rounds: 60,
            throughput: (7, 2),
            udp: (9, 1000),
            sync_rounds: 3,
            changes: (4, 100),
            rest: (3, Duration::from_secs(10)),
            start_rounds: 7,
            packet_rounds: 25,
        }
    }

    fn quick() -> Self {
        Self {
            services: QUICK_SERVICES.to_vec(),
            connect_rounds: 20,
            throughput: (3, 1),
            udp: (3, 500),
            sync_rounds: 1,
            changes: (1, 100),
            rest: (1, Duration::from_secs(4)),
            start_rounds: 3,
            packet_rounds: 9,
            ..Self::full()
        }
    }

    /// Whether a figure is wanted.
    pub(super) fn wants(&self, name: Name) -> bool {
        self.only.is_empty() || self.only.contains(&name)
    }

    /// Whether a variant can take so many Services in bearable time.
    #[expect(clippy::unused_self, reason = "it belongs to what is planned")]
    pub(super) fn bears(&self, variant: Variant, services: u32) -> bool {
        match variant {
            Variant::Iptables => services <= MOST_FOR_IPTABLES,
            Variant::Nftables => services <= MOST_FOR_NFTABLES,
            Variant::None | Variant::Tc | Variant::Xdp | Variant::Socket => true,
        }
    }

    /// Rounds of a full sync of so many Services.
    pub(super) fn sync_rounds(&self, services: u32) -> u32 {
        if services > MOST_SYNCED_AGAIN {
            1
        } else {
            self.sync_rounds
        }
    }

    /// Variants that so many Services are measured with.
    pub(super) fn variants(&self, services: u32, all: &[Variant]) -> Vec<Variant> {
        let bears = |it: &Variant| self.bears(*it, services);
        all.iter().copied().filter(bears).collect()
    }

    /// With how many Services flows are measured: the most of those that are asked for, up to
    /// some.
    pub(super) fn for_flows(&self) -> u32 {
        let few = self.services.iter().filter(|it| **it <= FOR_FLOWS).max();
        few.or(self.services.first()).copied().unwrap_or(FOR_FLOWS)
    }
}

/// A comparison that goes on.
pub(super) struct Session {
    pub(super) plan: Plan,
    pub(super) agent: PathBuf,
    pub(super) clock: Clock,
    pub(super) figures: Vec<Figure>,
}

impl Session {
    pub(super) fn begin(plan: Plan, agent: &Path) -> Self {
        Self {
            plan,
            agent: agent.to_owned(),
            clock: Clock::start(),
            figures: Vec::new(),
        }
    }

    pub(super) fn wants(&self, name: Name) -> bool {
        self.plan.wants(name)
    }

    /// Adds rows to a figure that is wanted.
    pub(super) fn add(&mut self, name: Name, rows: Vec<Row>) -> Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        let load = machine::load()?;
        let text = name.text();
        let known = self.figures.iter().position(|it| it.name == text);
        let place = known.unwrap_or_else(|| {
            let mut figure = name.head();
            figure.load[0] = load;
            self.figures.push(figure);
            self.figures.len() - 1
        });
        let figure = &mut self.figures[place];
        figure.load[1] = load;
        figure.rows.extend(rows);
        figure.goals = name.goals(&figure.rows);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_narrows_the_plan() {
        let chosen = CompareArgs {
            quick: true,
            services: vec![2_000, 50, 50],
            only: vec![Name::Udp],
            ..CompareArgs::default()
        };
        let plan = Plan::of(&chosen);
        assert_eq!(plan.services, [50, 2_000]);
        assert_eq!(plan.for_flows(), 50);
        assert!(plan.wants(Name::Udp) && !plan.wants(Name::Connect));
        assert_eq!(Plan::of(&CompareArgs::default()), Plan::full());
        assert_eq!(Plan::full().for_flows(), 1_000);
    }

    #[test]
    fn rules_are_left_out_where_they_cannot_be_borne() {
        let all = [Variant::Iptables, Variant::Nftables, Variant::Tc];
        assert_eq!(Plan::full().variants(1, &all), all);
        assert_eq!(Plan::full().variants(10_000, &all), all[1..]);
        assert_eq!(Plan::full().variants(30_000, &all), all[2..]);
    }
}
