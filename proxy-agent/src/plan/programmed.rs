//! What the kernel holds of one port.

use std::collections::BTreeMap;

use proxy_ebpf::layout::{self, Span, frontend_flags};

use crate::model::desired::{Endpoint, Frontend, FrontendKind};
use crate::model::object::TrafficPolicy;

/// A port as it is in the kernel.
#[derive(Debug)]
pub(super) struct Programmed {
    pub(super) service: u32,
    pub(super) frontends: Vec<Frontend>,
    /// Index of each endpoint's backend.
    pub(super) backends: BTreeMap<Endpoint, u32>,
    /// Backend indices of the cluster set, then of the local set: the content of
    /// `block`.
    pub(super) slots: Vec<u32>,
    pub(super) block: Span,
    /// How many of `slots` are the cluster set.
    pub(super) cluster: u32,
    pub(super) internal_policy: TrafficPolicy,
    pub(super) external_policy: TrafficPolicy,
    pub(super) affinity_seconds: u32,
}

impl Programmed {
    /// The value of its frontends of one kind.
    pub(super) fn value(&self, kind: FrontendKind) -> layout::Frontend {
        let (external, policy) = match kind {
            FrontendKind::ClusterIp => (0, self.internal_policy),
            FrontendKind::LoadBalancer | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                (frontend_flags::EXTERNAL, self.external_policy)
            }
        };
        let local = match policy {
            TrafficPolicy::Cluster => 0,
            TrafficPolicy::Local => frontend_flags::LOCAL_POLICY,
        };
        layout::Frontend {
            service: self.service,
            flags: external | local,
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
