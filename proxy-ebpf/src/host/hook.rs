//! What the programs do around the pipeline: telling the IP versions apart.

use super::{Frame, Memory};
use crate::layout::{Address, V4, V6};
use crate::pipeline::{Client, Verdict, egress, ethernet, ingress};

/// Where a packet is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Ingress of a device.
    Ingress(Client),
    /// Egress of a device.
    Egress,
}

/// What a device's packets start with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// IP, at once; the stack has this EtherType for it.
    Ip(u16),
}

/// What becomes of a packet, whatever its IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// [`Verdict::Pass`]
    Pass,
    /// [`Verdict::Drop`]
    Drop,
    /// [`Verdict::Return`]
    Return,
    /// [`Verdict::Forward`]
    Forward,
}

/// Runs a packet through the pipeline as the programs do.
pub fn run(frame: &mut Frame, hook: Hook, link: Link, v4: &Memory<V4>, v6: &Memory<V6>) -> Action {
    let header = match link {
        Link::Ethernet => ethernet(frame),
        Link::Ip(kind) => Some((0, kind)),
    };
    match (header, hook) {
        (Some((network, V4::ETHERTYPE)), Hook::Ingress(client)) => {
            action(&ingress(frame, network, v4, client))
        }
        (Some((network, V4::ETHERTYPE)), Hook::Egress) => action(&egress(frame, network, v4)),
        (Some((network, V6::ETHERTYPE)), Hook::Ingress(client)) => {
            action(&ingress(frame, network, v6, client))
        }
        (Some((network, V6::ETHERTYPE)), Hook::Egress) => action(&egress(frame, network, v6)),
        _ => Action::Pass,
    }
}

fn action<A>(verdict: &Verdict<A>) -> Action {
    match verdict {
        Verdict::Pass => Action::Pass,
        Verdict::Drop => Action::Drop,
        Verdict::Return => Action::Return,
        Verdict::Forward(_) => Action::Forward,
    }
}
