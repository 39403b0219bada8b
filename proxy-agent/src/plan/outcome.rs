//! What comes of planning besides the writes: what they retire, and what found no
//! room.

use std::fmt;
use std::net::SocketAddr;

use proxy_ebpf::layout::Span;

use super::group::After;
use crate::model::desired::PortName;

/// What is left of a plan when its writes are made.
#[derive(Debug, Default)]
pub struct Plan {
    /// What is free after the writes and a grace period.
    pub retired: Retired,
    /// Ports for which a map has no room: they stay as they were, or do without a table.
    pub capacity_errors: Vec<CapacityError>,
}

/// Elements that running programs may still look at.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use = "what is not reclaimed is lost"]
pub struct Retired(pub(super) Vec<RetiredElements>);

/// What was replaced by the same writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RetiredElements {
    pub(super) after: After,
    pub(super) spans: Vec<Span>,
    pub(super) backends: Vec<(SocketAddr, u32)>,
    pub(super) services: Vec<u32>,
}

impl RetiredElements {
    pub(super) fn new(after: After) -> Self {
        Self {
            after,
            spans: Vec::new(),
            backends: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl Retired {
    /// Whether there is nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what another plan has retired.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Takes what was really replaced: `is_written` tells that of writes.
    pub fn take_written(&mut self, is_written: impl Fn(&After) -> bool) -> Self {
        let taken = self.0.extract_if(.., |it| is_written(&it.after));
        Self(taken.collect())
    }
}

/// Ports of a Service that could not be programmed as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityError {
    /// The first of them.
    pub port: PortName,
    /// How many others there are.
    pub others: usize,
    /// The map without room.
    pub full: FullMap,
}

impl fmt::Display for CapacityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, others, full } = self;
        write!(f, "the port {port} ({:?})", port.family)?;
        if *others > 0 {
            write!(f, " and {others} more")?;
        }
        write!(f, ": {full}")
    }
}

/// A map without room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullMap {
    /// `FRONTENDS_*`
    Frontends,
    /// `BACKENDS_*`
    Backends,
    /// `SLOTS`
    Slots,
    /// `SOURCE_RANGES_*`
    SourceRanges,
    /// The part of `SLOTS` that tables may have; the port is served without one.
    Tables,
}

impl fmt::Display for FullMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Frontends => "the map of frontends is full (--map-frontends)",
            Self::Backends => "the map of backends is full (--map-backends)",
            Self::Slots => "the map of slots is full (--map-slots)",
            Self::SourceRanges => {
                "the map of source ranges, as large as that of frontends, is full \
                 (--map-frontends)"
            }
            Self::Tables => {
                "tables for maglev have no more of the slots (--map-slots): its endpoints are \
                 chosen by chance"
            }
        })
    }
}
