//! TC: ingress and egress of every edge device.
//!
//! The program's name tells what the agent knows of the device: whether a pod of
//! this node is behind it, and whether its packets start with an Ethernet header
//! or (`_ip`) at once with IP.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use proxy_ebpf::layout::{Address, Stage, V4, V6, protocol};
use proxy_ebpf::pipeline::{AllCapabilities, Client, Context, Packet as _, Verdict, ethernet};

use crate::forward::Route;
use crate::maps::Maps;
use crate::mark;
use crate::skb::Skb;
use crate::stages::tail_call;
use crate::verdict::{NEXT, apply};

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
pub(crate) fn egress_pod(ctx: TcContext) -> i32 {
    on_egress(Skb::new(&ctx), Link::Ethernet, Client::Outside)
}

#[classifier]
pub(crate) fn egress_outside(ctx: TcContext) -> i32 {
    on_egress(Skb::new(&ctx), Link::Ethernet, Client::Host)
}

#[classifier]
pub(crate) fn egress_pod_ip(ctx: TcContext) -> i32 {
    on_egress(Skb::new(&ctx), Link::Ip, Client::Outside)
}

#[classifier]
pub(crate) fn egress_outside_ip(ctx: TcContext) -> i32 {
    on_egress(Skb::new(&ctx), Link::Ip, Client::Host)
}

#[inline(always)]
fn on_ingress(mut skb: Skb, link: Link, client: Client) -> i32 {
    if skb.is_translated() || skb.is_tagged() {
        return NEXT;
    }
    // A Pod's frames are for the bridge, or for its gateway, whose device is another one.
    if matches!((link, client), (Link::Ethernet, Client::Outside)) && !skb.is_for_this_host() {
        return NEXT;
    }
    skb.store_client(client);
    match network_header(&mut skb, link) {
        Some((network, V4::ETHERTYPE)) => {
            let verdict = Context::<V4, _, _>::new(&mut skb, network, &Maps, client)
                .ingress(&mut AllCapabilities);
            apply(&mut skb, network, verdict)
        }
        Some((network, V6::ETHERTYPE)) => {
            let verdict = Context::<V6, _, _>::new(&mut skb, network, &Maps, client)
                .ingress(&mut AllCapabilities);
            apply(&mut skb, network, verdict)
        }
        _ => NEXT,
    }
}

/// By an uplink leave also packets of this host, which is a client then.
#[inline(always)]
fn on_egress(mut skb: Skb, link: Link, client: Client) -> i32 {
    skb.unmark_translated();
    if skb.is_tagged() {
        return NEXT;
    }
    match network_header(&mut skb, link) {
        Some((network, V4::ETHERTYPE)) => {
            let verdict = Context::<V4, _, _>::new(&mut skb, network, &Maps, client).egress();
            apply_at_egress(&mut skb, network, client, verdict)
        }
        Some((network, V6::ETHERTYPE)) => {
            let verdict = Context::<V6, _, _>::new(&mut skb, network, &Maps, client).egress();
            apply_at_egress(&mut skb, network, client, verdict)
        }
        _ => NEXT,
    }
}

/// What leaves translated is not marked. Whether a packet is this host's own is asked only where
/// it may be one to a Service.
#[inline(always)]
fn apply_at_egress<A: Route>(
    skb: &mut Skb,
    network: usize,
    client: Client,
    verdict: Verdict<A>,
) -> i32 {
    match verdict {
        Verdict::PassTranslated => NEXT,
        Verdict::Continue(stage) => {
            let is_own = client == Client::Host && (network == 0 || skb.is_from_this_host());
            if stage == Stage::FromHost && !is_own {
                return NEXT;
            }
            skb.store_client(if is_own {
                Client::Host
            } else {
                Client::Outside
            });
            tail_call::<A>(skb, stage, network, 0)
        }
        Verdict::Drop(_) => {
            skb.store_client(client);
            apply(skb, network, verdict)
        }
        verdict => apply(skb, network, verdict),
    }
}

/// Offset and EtherType of the network header.
#[inline(always)]
fn network_header(skb: &mut Skb, link: Link) -> Option<(usize, u16)> {
    let (network, kind) = match link {
        Link::Ethernet => {
            if !skb.is_linear() {
                skb.make_linear_up_to(LINK_HEADER);
            }
            ethernet(skb)?
        }
        Link::Ip => (0, skb.protocol()),
    };
    if !skb.is_linear() {
        // To bring more into the linear part copies it, for a packet whose data is shared: as
        // is that of each segment that TCP may have to send again.
        match needed(skb, network, kind) {
            Some(needed) => skb.make_linear_up_to(needed),
            None => skb.make_linear(),
        }
    }
    Some((network, kind))
}

/// The length of an Ethernet header.
const LINK_HEADER: u32 = 14;

/// How many bytes the headers of a plain packet of TCP or UDP take.
#[inline(always)]
fn needed(skb: &Skb, network: usize, kind: u16) -> Option<u32> {
    let (length, protocol) = match kind {
        V4::ETHERTYPE => {
            // By twos: of a single byte verifiers do not see that it is there.
            let [version_and_length, _]: [u8; 2] = skb.read(network)?;
            let [_ttl, protocol]: [u8; 2] = skb.read(network + 8)?;
            (u32::from(version_and_length & 0x0f) * 4, protocol)
        }
        V6::ETHERTYPE => {
            let [protocol, _hop_limit]: [u8; 2] = skb.read(network + 6)?;
            (40, protocol)
        }
        _ => return Some(0),
    };
    let transport = match protocol {
        protocol::TCP => 20,
        protocol::UDP => 8,
        _ => return None,
    };
    Some(network as u32 + length + transport)
}
