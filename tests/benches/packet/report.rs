//! The results, as a table and as JSON.

use anyhow::Result;
use serde::Serialize;

use crate::Fill;
use crate::cases::Case;
use crate::program::Runs;

/// What a case costs, over all rounds, in nanoseconds over an empty program.
#[derive(Debug, Serialize)]
pub(crate) struct Costs {
    hook: &'static str,
    family: String,
    path: &'static str,
    content: &'static str,
    /// Whether the kernel repeats a run, or each is a system call of its own.
    repeated: bool,
    /// Of each round, in order.
    found: Vec<f64>,
}

impl Costs {
    pub(crate) fn new(case: &Case, fill: Fill, mut found: Vec<f64>) -> Self {
        found.sort_unstable_by(f64::total_cmp);
        Self {
            hook: case.hook.name(),
            family: case.family.to_string(),
            path: case.path,
            content: fill.name,
            repeated: matches!(case.runs, Runs::Repeated(_)),
            found,
        }
    }

    fn at(&self, position: usize) -> f64 {
        self.found.get(position).copied().unwrap_or_default()
    }
}

pub(crate) fn print_table(costs: &[Costs]) {
    println!(
        "{:<18} {:<6} {:<34} {:<6} {:<9} {:>8} {:>8} {:>8}",
        "program", "family", "path", "tables", "runs", "median", "min", "max"
    );
    for it in costs {
        let runs = if it.repeated { "repeated" } else { "single" };
        println!(
            "{:<18} {:<6} {:<34} {:<6} {runs:<9} {:>5.0} ns {:>5.0} ns {:>5.0} ns",
            it.hook,
            it.family,
            it.path,
            it.content,
            it.at(it.found.len() / 2),
            it.at(0),
            it.at(it.found.len().saturating_sub(1))
        );
    }
}

pub(crate) fn json(costs: &[Costs]) -> Result<String> {
    Ok(serde_json::to_string_pretty(costs)?)
}
