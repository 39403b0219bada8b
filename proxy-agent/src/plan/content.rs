//! What the kernel's maps hold, read back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proxy_ebpf::layout::{Frontend, Settings, Span, V4, V6};

use super::write::{BackendEntry, FrontendId};
use crate::model::object::Family;

/// What the kernel's maps hold.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Every frontend.
    pub frontends: Vec<(FrontendId, Frontend)>,
    /// Every backend's element that was ever used, with its index.
    pub backends: Vec<(Family, u32, Element)>,
    /// The slots, from the first to the last one that a frontend leads to.
    pub slots: Vec<u32>,
    /// Ranges of sources by IP family and Service port id.
    pub source_ranges: Vec<(u32, IpNet)>,
    /// What Service ports are called, by their ids.
    pub service_names: BTreeMap<u32, Arc<str>>,
    /// ClusterIPs that some Service has.
    pub cluster_ips: BTreeSet<IpAddr>,
    /// Addresses on which NodePorts answer.
    pub node_addresses: BTreeSet<IpAddr>,
    /// By device and IP family, the address of what is sent on by it.
    pub device_addresses: BTreeMap<(u32, Family), IpAddr>,
    /// The settings of both IP versions.
    pub settings: (Settings<V4>, Settings<V6>),
}

/// A backend's element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// The endpoint serves.
    Living(BackendEntry),
    /// Its life has ended.
    Ended {
        /// The endpoint that it was.
        endpoint: SocketAddr,
        /// The generation, even.
        generation: u32,
    },
}

impl Element {
    /// The generation with which its life has ended.
    pub(super) fn ended_with(&self) -> Option<u32> {
        match self {
            Self::Living(_) => None,
            Self::Ended { generation, .. } => Some(*generation),
        }
    }
}

impl Content {
    /// The backend indices in a span of slots; `None` where it is out of range.
    pub fn slots_of(&self, span: Span) -> Option<&[u32]> {
        let start = span.start as usize;
        self.slots.get(start..start.checked_add(span.len as usize)?)
    }

    /// Where the last span ends that a frontend leads to.
    pub fn last_slot(frontends: &[(FrontendId, Frontend)]) -> u32 {
        let spans = frontends
            .iter()
            .flat_map(|(_, frontend)| [frontend.cluster, frontend.local]);
        let ends = spans.map(|span| span.start.saturating_add(span.len));
        ends.max().unwrap_or(0)
    }
}
