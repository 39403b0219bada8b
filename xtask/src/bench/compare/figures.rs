//! The figures: what each is about, how it is measured, and what the project wants of it.

pub(super) mod change;
pub(super) mod connect;
pub(super) mod first_packet;
pub(super) mod memory;
pub(super) mod packet;
pub(super) mod plain;
pub(super) mod rest;
pub(super) mod sync;
pub(super) mod throughput;
pub(super) mod traffic;
pub(super) mod udp;

use clap::ValueEnum;

use super::super::report::{Figure, Goal, Row};

/// A figure, as `--only` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Name {
    /// Pod to Pod without a Service, with and without the agent
    Plain,
    /// Connect, request, close: through a ClusterIP and to the Pod directly
    Connect,
    /// The first packet: SYN to SYN-ACK
    FirstPacket,
    /// TCP throughput by iperf3
    Throughput,
    /// Small datagrams from outside by NodePort
    Udp,
    /// Full sync of all Services
    Sync,
    /// One endpoint changes
    Change,
    /// Resident memory of the agent
    Memory,
    /// The agent's CPU time at rest and with changes, and its start
    Rest,
    /// What the programs cost a packet, by path
    Packet,
}

impl Name {
    /// As `--only` takes it.
    pub(super) fn text(self) -> String {
        let value = self.to_possible_value();
        value.map(|it| it.get_name().to_owned()).unwrap_or_default()
    }

    /// The figure without rows.
    pub(super) fn head(self) -> Figure {
        let (title, how) = match self {
            Self::Plain => plain::ABOUT,
            Self::Connect => connect::ABOUT,
            Self::FirstPacket => first_packet::ABOUT,
            Self::Throughput => throughput::ABOUT,
            Self::Udp => udp::ABOUT,
            Self::Sync => sync::ABOUT,
            Self::Change => change::ABOUT,
            Self::Memory => memory::ABOUT,
            Self::Rest => rest::ABOUT,
            Self::Packet => packet::ABOUT,
        };
        Figure {
            name: self.text(),
            title: title.to_owned(),
            how: how.to_owned(),
            missed: self.missed().to_owned(),
            ..Figure::default()
        }
    }

    /// Why its goals are missed where they are, and what to try next.
    fn missed(self) -> &'static str {
        match self {
            Self::Plain => plain::MISSED,
            Self::Connect => connect::MISSED,
            Self::Throughput => throughput::MISSED,
            Self::Udp => udp::MISSED,
            Self::Change => change::MISSED,
            Self::Memory => memory::MISSED,
            Self::Rest => rest::MISSED,
            Self::Packet => packet::MISSED,
            // They were met.
            Self::FirstPacket | Self::Sync => "",
        }
    }

    /// What the project wants of it, and whether the rows have it.
    pub(super) fn goals(self, rows: &[Row]) -> Vec<Goal> {
        match self {
            Self::Plain => plain::goals(rows),
            Self::Connect => connect::goals(rows),
            Self::FirstPacket => first_packet::goals(rows),
            Self::Throughput => throughput::goals(rows),
            Self::Udp => udp::goals(rows),
            Self::Sync => sync::goals(rows),
            Self::Change => change::goals(rows),
            Self::Memory => memory::goals(rows),
            Self::Rest => rest::goals(rows),
            Self::Packet => packet::goals(rows),
        }
    }
}

/// Wants the median ratio to the limit of all rows that are chosen to be at least so much;
/// no goal where there is no such row.
fn of_limit(text: &str, at_least: f64, chosen: impl Iterator<Item = f64>) -> Option<Goal> {
    let worst = chosen.reduce(f64::min)?;
    Some(Goal {
        text: format!("{text} at least {at_least} of the limit"),
        found: format!("{worst:.3}"),
        met: worst >= at_least,
    })
}

/// The median ratios to the limit of a variant's rows.
fn ratios<'a>(
    rows: &'a [Row],
    variant: &'a str,
    to: &'a str,
    aspect: &'a str,
) -> impl Iterator<Item = f64> + 'a {
    rows.iter()
        .filter(move |row| row.variant == variant && row.to == to && row.aspect == aspect)
        .filter_map(|row| row.of_limit.map(|it| it.median))
}

/// Wants each of our rows to be above (or below) those of others with as many Services, at
/// the same position: the worst quotient of both, by which it is better if more than 1.
fn better(
    text: &str,
    rows: &[Row],
    aspect: &str,
    ours: &[&str],
    others: &[&str],
    is_more_better: bool,
) -> Option<Goal> {
    let of = |variants: &[&str], row: &&Row| {
        row.aspect == aspect && variants.contains(&row.variant.as_str()) && row.position.is_some()
    };
    let quotient = |our: &Row, other: &Row| {
        let quotient = our.value.median / other.value.median;
        if is_more_better {
            quotient
        } else {
            1.0 / quotient
        }
    };
    let pairs = rows.iter().filter(|row| of(ours, row)).flat_map(|our| {
        let same = |other: &&Row| {
            of(others, other) && other.services == our.services && other.position == our.position
        };
        let others = rows.iter().filter(same);
        others.map(move |other| (quotient(our, other), our, other))
    });
    let (worst, our, other) = pairs.min_by(|one, two| one.0.total_cmp(&two.0))?;
    let services = our.services.unwrap_or_default();
    Some(Goal {
        text: text.to_owned(),
        found: format!(
            "at worst {worst:.2} times as good: {} and {} at {services} Services",
            our.variant, other.variant
        ),
        met: worst > 1.0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::report::{Position, Spread};
    use super::*;

    fn row(variant: &str, value: f64) -> Row {
        Row {
            variant: variant.into(),
            to: "ClusterIP".into(),
            services: Some(10),
            position: Some(Position::Last),
            aspect: "rate".into(),
            value: Spread::of(&[value]).unwrap(),
            of_limit: Spread::of(&[value / 100.0]),
            ..Row::default()
        }
    }

    #[test]
    fn the_worst_of_all_rows_counts() {
        let rows = [row("TC", 96.0), row("TC", 94.0), row("nftables", 95.0)];
        let chosen = || ratios(&rows, "TC", "ClusterIP", "rate");
        let goal = of_limit("TC", 0.95, chosen()).unwrap();
        assert_eq!((goal.found.as_str(), goal.met), ("0.940", false));
        assert!(of_limit("TC", 0.9, chosen()).unwrap().met);
        assert_eq!(of_limit("TC", 0.9, ratios(&rows, "XDP", "", "")), None);
        let above = |more| better("", &rows, "rate", &["TC"], &["nftables"], more).unwrap();
        assert!(!above(true).met);
        assert!(!above(false).met);
    }
}
