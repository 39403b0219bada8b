//! TC: ingress and egress of every edge device.
//!
//! The program's name tells what the agent knows of the device: whether a pod of
//! this node is behind it, and whether its packets start with an Ethernet header
//! or (`_ip`) at once with IP.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use proxy_ebpf::layout::{Address, V4, V6};
use proxy_ebpf::pipeline::{Client, EveryWay, Packet as _, egress, ethernet, hide_offset, ingress};

use crate::maps::Maps;
use crate::mark;
use crate::skb::Skb;
use crate::verdict::{NEXT, act};

/// What a device's packets start with.
#[derive(Clone, Copy)]
enum Link {
    Ethernet,
    Ip,
}

#[classifier]
pub(crate) fn ingress_pod(ctx: TcContext) -> i32 {
    on_ingress(Skb::new(&ctx), Link::Ethernet, Client::Pod)
}

#[classifier]
pub(crate) fn ingress_outside(ctx: TcContext) -> i32 {
    let skb = Skb::new(&ctx);
    if mark::is_set(skb.raw()) {
        return NEXT;
    }
    on_ingress(skb, Link::Ethernet, Client::Outside)
}

#[classifier]
pub(crate) fn ingress_pod_ip(ctx: TcContext) -> i32 {
    on_ingress(Skb::new(&ctx), Link::Ip, Client::Pod)
}

#[classifier]
pub(crate) fn ingress_outside_ip(ctx: TcContext) -> i32 {
    on_ingress(Skb::new(&ctx), Link::Ip, Client::Outside)
}

#[classifier]
pub(crate) fn egress_any(ctx: TcContext) -> i32 {
    on_egress(Skb::new(&ctx), Link::Ethernet)
}

#[classifier]
pub(crate) fn egress_any_ip(ctx: TcContext) -> i32 {
    on_egress(Skb::new(&ctx), Link::Ip)
}

#[inline(always)]
fn on_ingress(mut skb: Skb, link: Link, client: Client) -> i32 {
    skb.leave_client(client);
    match network_header(&mut skb, link) {
        Some((network, V4::ETHERTYPE)) => {
            let verdict = ingress::<V4, _, _, _>(&mut skb, network, &Maps, client, &mut EveryWay);
            act(&mut skb, network, verdict)
        }
        Some((network, V6::ETHERTYPE)) => {
            let verdict = ingress::<V6, _, _, _>(&mut skb, network, &Maps, client, &mut EveryWay);
            act(&mut skb, network, verdict)
        }
        _ => NEXT,
    }
}

#[inline(always)]
fn on_egress(mut skb: Skb, link: Link) -> i32 {
    match network_header(&mut skb, link) {
        Some((network, V4::ETHERTYPE)) => {
            let verdict = egress::<V4, _, _>(&mut skb, network, &Maps);
            act(&mut skb, network, verdict)
        }
        Some((network, V6::ETHERTYPE)) => {
            let verdict = egress::<V6, _, _>(&mut skb, network, &Maps);
            act(&mut skb, network, verdict)
        }
        _ => NEXT,
    }
}

/// Offset and EtherType of the network header.
#[inline(always)]
fn network_header(skb: &mut Skb, link: Link) -> Option<(usize, u16)> {
    skb.make_linear();
    match link {
        Link::Ethernet => {
            let (network, kind) = ethernet(skb)?;
            // One of three; the verifier would follow each to the end.
            Some((hide_offset(network, skb.len(), 0x1f), kind))
        }
        Link::Ip => Some((0, skb.protocol())),
    }
}
