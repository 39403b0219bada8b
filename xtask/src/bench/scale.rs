//! The measurement: first sync, steady changes, a flood of changes.

pub(super) mod report;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    ScaleArgs,
    memory::Memory,
    percentiles::Percentiles,
    stand::{Size, Stand},
};
use crate::{interrupt, terminal};

/// What was found.
pub(super) struct Results {
    pub(super) services: u32,
    pub(super) endpoints: u32,
    pub(super) dual_stack: bool,
    /// From the start of the process to its first full state in the maps.
    pub(super) first_sync: Duration,
    pub(super) synced: Memory,
    /// What the kernel says that the agent's maps take.
    pub(super) map_bytes: u64,
    pub(super) rate: u32,
    pub(super) latency: Percentiles,
    pub(super) churn: u32,
    pub(super) churn_took: Duration,
    pub(super) before_churn: Memory,
    pub(super) after_churn: Memory,
}

/// Runs the whole measurement in a lab of its own.
pub(super) fn measure(arguments: &ScaleArgs, agent: &Path) -> Result<Results> {
    let (services, endpoints) = (arguments.services, arguments.endpoints);
    terminal::heading("Scale");
    terminal::note(&format!(
        "{services} Services with {endpoints} endpoints each"
    ));
    interrupt::clean_up()?;
    let size = Size {
        services,
        endpoints,
        dual_stack: arguments.dual_stack,
        paged: arguments.paged,
    };
    let mut stand = Stand::new(agent, size)?;
    let synced = stand.memory_at_rest()?;

    terminal::note(&format!(
        "{} changes at {} a second",
        arguments.changes, arguments.rate
    ));
    let latency = stand.change_steadily(arguments.rate, arguments.changes)?;

    terminal::note(&format!("{} changes at once", arguments.churn));
    let before_churn = Memory::of(stand.agent.id())?;
    let started = Instant::now();
    stand.flood(arguments.churn)?;
    let churn_took = started.elapsed();
    Ok(Results {
        services,
        endpoints,
        dual_stack: arguments.dual_stack,
        first_sync: stand.first_sync,
        synced,
        map_bytes: stand.maps.bytes(),
        rate: arguments.rate,
        latency: Percentiles::of(latency),
        churn: arguments.churn,
        churn_took,
        before_churn,
        after_churn: stand.memory_at_rest()?,
    })
}
