//! What comes of planning besides the writes: what they retire, and what found no
//! room.

use std::fmt;
use std::net::SocketAddr;

use proxy_ebpf::layout::Span;

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
pub struct Retired {
    pub(super) spans: Vec<Span>,
    pub(super) backends: Vec<(SocketAddr, u32)>,
    pub(super) services: Vec<u32>,
}

impl Retired {
    /// Whether there is nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.backends.is_empty() && self.services.is_empty()
    }

    /// Adds what another plan has retired.
    pub fn extend(&mut self, other: Self) {
        self.spans.extend(other.spans);
        self.backends.extend(other.backends);
        self.services.extend(other.services);
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
