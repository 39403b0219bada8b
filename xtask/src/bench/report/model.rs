//! The data of a report, as its JSON has it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Machine, Spread};

/// All that one run of the comparison found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Report {
    /// The command that ran it.
    pub(in super::super) command: String,
    /// The version of the project.
    pub(in super::super) version: String,
    /// The commit, and `-dirty` where files were changed since.
    pub(in super::super) commit: String,
    /// When it began, UTC.
    pub(in super::super) date: String,
    /// How long it took.
    pub(in super::super) seconds: u64,
    pub(in super::super) quick: bool,
    pub(in super::super) machine: Machine,
    pub(in super::super) figures: Vec<Figure>,
}

/// One thing that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Figure {
    /// As `--only` takes it.
    pub(in super::super) name: String,
    pub(in super::super) title: String,
    /// What was measured and how, in a paragraph.
    pub(in super::super) how: String,
    /// The command that measures this figure alone.
    pub(in super::super) command: String,
    /// The load average over a minute, when it began and when it ended.
    pub(in super::super) load: [f64; 2],
    pub(in super::super) goals: Vec<Goal>,
    /// Why goals are missed, as far as it was found out, and what to try next.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub(in super::super) missed: String,
    pub(in super::super) rows: Vec<Row>,
}

/// What the project wants of a figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Goal {
    pub(in super::super) text: String,
    /// What was found instead or indeed.
    pub(in super::super) found: String,
    pub(in super::super) met: bool,
}

/// One value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Row {
    /// What serves the Services.
    pub(in super::super) variant: String,
    /// What is called: the Pod directly, a ClusterIP; or another circumstance.
    pub(in super::super) to: String,
    /// How many Services there are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in super::super) services: Option<u32>,
    /// Where among them the one is that is called.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in super::super) position: Option<Position>,
    /// What was measured, such as `rate` or `p99`.
    pub(in super::super) aspect: String,
    pub(in super::super) unit: String,
    pub(in super::super) value: Spread,
    /// The value by that of the limit in the same round.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(in super::super) of_limit: Option<Spread>,
}

/// The place of a Service among all, in the order in which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in super::super) enum Position {
    First,
    Middle,
    Last,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::First => "first",
            Self::Middle => "middle",
            Self::Last => "last",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report with one figure: the limit, and one variant at two sizes.
    pub(in super::super) fn report() -> Report {
        let row = |variant: &str, services, aspect: &str, unit: &str, values: &[f64]| Row {
            variant: variant.into(),
            to: "ClusterIP".into(),
            services: Some(services),
            position: (variant == "nftables").then_some(Position::First),
            aspect: aspect.into(),
            unit: unit.into(),
            value: Spread::of(values).unwrap(),
            of_limit: Spread::of(&[0.9]),
        };
        let rate = [8000.0, 9000.0, 10_000.0];
        Report {
            command: "cargo xtask bench --quick".into(),
            version: "0.1.0".into(),
            commit: "0123456".into(),
            date: "2024-01-01T00:00:00Z".into(),
            seconds: 100,
            quick: true,
            machine: Machine {
                cpu: "AMD EPYC".into(),
                cores: 2,
                memory_bytes: 8 << 30,
                kernel: "6.18.0".into(),
                priority: 0,
                load: [0.1, 0.5],
            },
            figures: vec![Figure {
                name: "connect".into(),
                title: "Connect, request, close".into(),
                how: "One after the other.".into(),
                command: "cargo xtask bench --only connect".into(),
                load: [0.1, 0.4],
                goals: vec![Goal {
                    text: "TC at least 0.95 of the limit".into(),
                    found: "0.90".into(),
                    met: false,
                }],
                missed: "Each packet passes four programs.".into(),
                rows: vec![
                    row("no proxy", 1000, "rate", "1/s", &rate),
                    row("no proxy", 1000, "p99", "µs", &[100.0]),
                    row("nftables", 1000, "rate", "1/s", &rate),
                    row("nftables", 1000, "p99", "µs", &[110.0]),
                ],
            }],
        }
    }

    #[test]
    fn the_json_of_a_report_is_read_as_it_was_written() {
        let json = serde_json::to_string(&report()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report());
        assert!(json.contains(r#""position":"first""#));
    }
}
