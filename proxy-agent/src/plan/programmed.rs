//! What the kernel holds of one port.

use std::sync::Arc;

use ipnet::IpNet;
use proxy_ebpf::layout::{self, Span, frontend_flags};

use crate::model::desired::{Endpoint, Frontend, FrontendKind};
use crate::model::object::{Algorithm, Forwarding, TrafficPolicy, Unanswered};

/// A port as it is in the kernel.
#[derive(Debug)]
pub(super) struct Programmed {
    pub(super) service: u32,
    pub(super) frontends: Box<[Frontend]>,
    /// Each endpoint with the index of its backend; sorted by endpoint.
    pub(super) backends: Box<[(Endpoint, u32)]>,
    /// Backend indices of the cluster set, then of the local set, or tables of them: the
    /// content of `block`.
    pub(super) slots: Box<[u32]>,
    pub(super) block: Span,
    /// How many of `slots` are the cluster set's.
    pub(super) cluster: u32,
    pub(super) algorithm: Algorithm,
    pub(super) forwarding: Forwarding,
    /// What its Service says of connections whose endpoint does not answer.
    pub(super) unanswered: Option<Unanswered>,
    pub(super) internal_policy: TrafficPolicy,
    pub(super) external_policy: TrafficPolicy,
    pub(super) affinity_seconds: u32,
    /// Who may use its load balancer addresses; everybody where there is none.
    pub(super) source_ranges: Option<Arc<[IpNet]>>,
}

/// The index of an endpoint's backend among `backends`, sorted by endpoint.
pub(super) fn index_of(backends: &[(Endpoint, u32)], endpoint: &Endpoint) -> Option<u32> {
    let place = backends.binary_search_by(|(known, _)| known.cmp(endpoint));
    place.ok().map(|place| backends[place].1)
}

impl Programmed {
    /// Its ranges of sources; none also where everybody is let in.
    pub(super) fn ranges(&self) -> &[IpNet] {
        self.source_ranges.as_deref().unwrap_or_default()
    }

    /// How many slots it has in tables for consistent hashing.
    pub(super) fn table_slots(&self) -> u32 {
        match self.algorithm {
            Algorithm::Maglev => self.block.len,
            Algorithm::Random => 0,
        }
    }

    /// Whether its Service says itself that endpoints are avoided which do not answer.
    pub(super) fn avoids(&self) -> bool {
        self.unanswered == Some(Unanswered::Avoid)
    }

    /// The value of its frontends of one kind.
    pub(super) fn value(&self, kind: FrontendKind) -> layout::Frontend {
        let (external, policy) = match kind {
            FrontendKind::ClusterIp | FrontendKind::LeftToHost => (0, self.internal_policy),
            FrontendKind::LoadBalancer | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                (frontend_flags::EXTERNAL, self.external_policy)
            }
        };
        let local = match policy {
            TrafficPolicy::Cluster => 0,
            TrafficPolicy::Local => frontend_flags::LOCAL_POLICY,
        };
        let restricted = match kind {
            FrontendKind::LoadBalancer if self.source_ranges.is_some() => {
                frontend_flags::SOURCE_RANGES
            }
            _ => 0,
        };
        let hashed = match self.algorithm {
            Algorithm::Maglev if external != 0 => frontend_flags::HASHED,
            _ => 0,
        };
        let direct = match self.forwarding {
            Forwarding::Dsr if external != 0 => frontend_flags::DSR,
            _ => 0,
        };
        let left = match kind {
            FrontendKind::LeftToHost => frontend_flags::LEFT_TO_HOST,
            _ => 0,
        };
        layout::Frontend {
            service: self.service,
            flags: external | local | restricted | hashed | direct | left,
            affinity_seconds: self.affinity_seconds,
            cluster: Span {
                start: self.block.start,
                len: self.cluster,
            },
            local: Span {
                start: self.block.start + self.cluster,
                len: self.block.len - self.cluster,
            },
        }
    }
}
