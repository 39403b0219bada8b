//! What the kernel's maps hold, as an operator wants to see it: from their content to rows, which
//! are documents with stable fields as well ([`API_VERSION`]).
//!
//! Everything here is a pure function of what was read; nothing asks the agent.

pub mod affinity;
pub mod backends;
pub mod explain;
mod filter;
pub mod flows;
mod names;
pub mod services;
pub mod summary;
mod time;
pub mod top;
pub mod trace;

pub use filter::{Filter, ServiceFilter};
pub use names::{Names, ServiceRef};

use proxy_ebpf::layout::{Liveness, Traffic, liveness_state};

use crate::maps::{MapError, PinnedMaps};
use crate::model::object::Family;
use crate::plan::Content;

/// The version of the documents: a field keeps its name and meaning as long as this stays.
pub const API_VERSION: &str = "proxy-agent/v1";

/// What an agent has written, and what was counted since.
#[derive(Debug, Default)]
pub struct State {
    /// What an agent has written.
    pub content: Content,
    /// What was translated, by Service port id.
    pub service_traffic: Vec<Traffic>,
    /// What was translated, by family and index of the backend.
    pub backend_traffic: [Vec<Traffic>; 2],
    /// Whether endpoints answer, by family and index of the backend.
    pub backend_liveness: [Vec<Liveness>; 2],
}

impl State {
    /// Reads it from the pinned maps.
    pub fn read(maps: &mut PinnedMaps) -> Result<Self, MapError> {
        Ok(Self {
            content: maps.content()?,
            service_traffic: maps.service_traffic()?,
            backend_traffic: [
                maps.backend_traffic(Family::V4)?,
                maps.backend_traffic(Family::V6)?,
            ],
            backend_liveness: [
                maps.backend_liveness(Family::V4)?,
                maps.backend_liveness(Family::V6)?,
            ],
        })
    }

    fn of_service(&self, id: u32) -> Traffic {
        let traffic = self.service_traffic.get(id as usize);
        traffic.copied().unwrap_or_default()
    }

    fn of_backend(&self, family: Family, index: u32) -> Traffic {
        let of_family = of_family(&self.backend_traffic, family);
        of_family.get(index as usize).copied().unwrap_or_default()
    }

    /// Whether new connections avoid the backend, in this life of its index.
    fn is_suspect(&self, family: Family, index: u32, generation: u32) -> bool {
        let of_family = of_family(&self.backend_liveness, family);
        let liveness = of_family.get(index as usize);
        liveness.is_some_and(|it| it.state != liveness_state::USED && it.generation == generation)
    }
}

fn of_family<T>([v4, v6]: &[Vec<T>; 2], family: Family) -> &[T] {
    match family {
        Family::V4 => v4,
        Family::V6 => v6,
    }
}

/// The name of a family in documents.
fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The name of a protocol by its number: that number where it is none of Services.
fn protocol_name(number: u8) -> String {
    use crate::model::object::Protocol;
    Protocol::of_number(number).map_or_else(|| number.to_string(), |it| it.to_string())
}
