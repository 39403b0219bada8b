//! The source ports of translated packets: chosen from what the host and Services leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{error, warn};

use crate::config::PortRange;
use crate::host::{HostPorts, NatPorts, nat_ports};
use crate::plan::{FrontendId, Write};

/// What decides about the source ports of translated packets.
#[derive(Debug)]
pub(super) struct SourcePorts {
    range: PortRange,
    host: HostPorts,
    node_ports: BTreeSet<FrontendId>,
    /// The ports were chosen before the last change of these.
    is_stale: bool,
    chosen: NatPorts,
}

impl SourcePorts {
    /// Ports of `range`, of which none is chosen yet.
    pub(super) fn new(range: PortRange) -> Self {
        Self {
            range,
            host: HostPorts::default(),
            node_ports: BTreeSet::new(),
            is_stale: true,
            chosen: NatPorts::default(),
        }
    }

    /// Leaves the host's ports to the host.
    pub(super) fn set_host(&mut self, host: HostPorts) {
        self.host = host;
        self.is_stale = true;
    }

    /// Takes note of a NodePort that comes or goes.
    pub(super) fn note(&mut self, write: &Write) {
        self.is_stale |= match write {
            Write::Frontend { id, .. } if id.address.is_unspecified() => {
                self.node_ports.insert(*id)
            }
            Write::RemoveFrontend { id } => self.node_ports.remove(id),
            _ => false,
        };
    }

    /// Chooses anew if there is cause to; the ports if they are others now.
    pub(super) fn choose(&mut self) -> Option<Arc<[u16]>> {
        if !std::mem::take(&mut self.is_stale) {
            return None;
        }
        let node_ports = self.node_ports.iter().map(|id| id.port).collect();
        let chosen = nat_ports(self.range, &self.host, &node_ports);
        if chosen == self.chosen {
            return None;
        }
        if chosen.shares_ephemeral && !self.chosen.shares_ephemeral {
            warn!(
                "nearly all of the NAT ports {} are ephemeral ports of the host, too: a \
                 connection of the host may be taken for a translated one; leave some \
                 out of net.ipv4.ip_local_port_range, or reserve them by \
                 net.ipv4.ip_local_reserved_ports",
                self.range
            );
        }
        if chosen.ports.is_empty() {
            error!(
                "no NAT port of {} is free: clients from outside do not reach backends \
                 on other nodes; set --nat-ports",
                self.range
            );
        }
        self.chosen = chosen;
        Some(Arc::from(self.chosen.ports.as_slice()))
    }
}
