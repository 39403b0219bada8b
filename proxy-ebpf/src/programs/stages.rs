//! Stages: parts of the pipeline with a program of their own, so that each program is of a
//! size that the kernel verifies. The hooks' programs call them and do not come back.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use proxy_ebpf::layout::{Stage, V4, V6};
use proxy_ebpf::pipeline::{
    Reason, Tables, Version, answer, decapsulate, egress_error, egress_fragment, ingress_error,
    ingress_fragment, open, open_direct, open_tunnelled, tunnel_error,
};

use crate::forward::{Route, forward};
use crate::maps::Maps;
use crate::onward::ByRoute;
use crate::skb::Skb;
use crate::statics::STAGES;
use crate::tunnel::send_in_tunnel;
use crate::verdict::{NEXT, act};

/// Goes on with a stage, for a packet whose IP header is at `network` and which is too long
/// for `mtu`, if that is not 0. Only where its program is not there does it come back,
/// with what to do instead.
#[inline(always)]
pub(crate) fn enter<A: Route>(skb: &mut Skb, stage: Stage, network: usize, mtu: u16) -> i32 {
    skb.leave(network, mtu);
    let context = TcContext::new(skb.raw());
    // SAFETY: the context of this program, and a map of its kind of programs.
    unsafe { STAGES.tail_call(&context, stage.index(A::VERSION)) };
    match stage {
        Stage::IngressError
        | Stage::EgressError
        | Stage::Fragment
        | Stage::EgressFragment
        | Stage::Decapsulate
        | Stage::OpenTunnelled
        | Stage::TunnelError => NEXT,
        Stage::Refuse
        | Stage::TooBig
        | Stage::Forward
        | Stage::Expire
        | Stage::Encapsulate
        | Stage::Open
        | Stage::OpenDirect => TC_ACT_SHOT,
    }
}

macro_rules! stages {
    ($($name:ident: $address:ty = $function:ident;)*) => {
        $(
            #[classifier]
            // A call would take 32 bytes of 512 from the stack.
            #[inline(always)]
            pub(crate) fn $name(ctx: TcContext) -> i32 {
                let mut skb = Skb::new(&ctx);
                skb.make_linear();
                let (network, _) = skb.left();
                let verdict = $function::<$address, _, _>(&mut skb, network, &Maps);
                act(&mut skb, network, verdict)
            }
        )*
    };
}

stages! {
    ingress_error_v4: V4 = ingress_error;
    ingress_error_v6: V6 = ingress_error;
    egress_error_v4: V4 = egress_error;
    egress_error_v6: V6 = egress_error;
    egress_fragment_v4: V4 = egress_fragment;
    egress_fragment_v6: V6 = egress_fragment;
    decapsulate_v4: V4 = decapsulate;
    decapsulate_v6: V6 = decapsulate;
    tunnel_error_v4: V4 = tunnel_error;
    tunnel_error_v6: V6 = tunnel_error;
}

macro_rules! stages_of_clients {
    ($($name:ident: $address:ty, |$skb:ident, $network:ident, $client:ident| $verdict:expr;)*) => {
        $(
            #[classifier]
            // A call would take 32 bytes of 512 from the stack.
            #[inline(always)]
            pub(crate) fn $name(ctx: TcContext) -> i32 {
                let mut skb = Skb::new(&ctx);
                skb.make_linear();
                let (network, _) = skb.left();
                let client = skb.left_client();
                let verdict = {
                    let ($skb, $network, $client) = (&mut skb, network, client);
                    $verdict
                };
                act::<$address>(&mut skb, network, verdict)
            }
        )*
    };
}

stages_of_clients! {
    refuse_v4: V4, |skb, network, _client| answer(skb, network, &Maps, Reason::Refused);
    refuse_v6: V6, |skb, network, _client| answer(skb, network, &Maps, Reason::Refused);
    expire_v4: V4, |skb, network, _client| answer(skb, network, &Maps, Reason::Expired);
    expire_v6: V6, |skb, network, _client| answer(skb, network, &Maps, Reason::Expired);
    fragment_v4: V4, |skb, network, client| ingress_fragment(skb, network, &Maps, client);
    fragment_v6: V6, |skb, network, client| ingress_fragment(skb, network, &Maps, client);
    open_v4: V4, |skb, network, client| {
        let sources = ByRoute::from(skb);
        open(skb, network, &Maps, client, &sources)
    };
    open_v6: V6, |skb, network, client| {
        let sources = ByRoute::from(skb);
        open(skb, network, &Maps, client, &sources)
    };
}

#[classifier]
pub(crate) fn too_big_v4(ctx: TcContext) -> i32 {
    on_too_big::<V4>(Skb::new(&ctx))
}

#[classifier]
pub(crate) fn too_big_v6(ctx: TcContext) -> i32 {
    on_too_big::<V6>(Skb::new(&ctx))
}

#[inline(always)]
fn on_too_big<A: Route + Version>(mut skb: Skb) -> i32
where
    Maps: Tables<A>,
{
    let (network, mtu) = skb.left();
    let verdict = answer::<A, _, _>(&mut skb, network, &Maps, Reason::TooBig(mtu));
    act(&mut skb, network, verdict)
}

#[classifier]
pub(crate) fn open_tunnelled_v4(ctx: TcContext) -> i32 {
    on_open_tunnelled::<V4>(&ctx)
}

#[classifier]
pub(crate) fn open_tunnelled_v6(ctx: TcContext) -> i32 {
    on_open_tunnelled::<V6>(&ctx)
}

#[classifier]
pub(crate) fn open_direct_v4(ctx: TcContext) -> i32 {
    on_open_direct::<V4>(Skb::new(&ctx))
}

#[classifier]
pub(crate) fn open_direct_v6(ctx: TcContext) -> i32 {
    on_open_direct::<V6>(Skb::new(&ctx))
}

#[inline(always)]
fn on_open_direct<A: Route + Version>(mut skb: Skb) -> i32
where
    Maps: Tables<A>,
{
    skb.make_linear();
    let (network, _) = skb.left();
    let sources = ByRoute::from(&skb);
    let verdict = open_direct::<A, _, _, _>(&mut skb, network, &Maps, &sources);
    act(&mut skb, network, verdict)
}

/// Of a packet without extension headers, as the other node has seen to.
#[inline(always)]
fn on_open_tunnelled<A: Route + Version>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let mut skb = Skb::<0>::new(ctx);
    skb.make_linear();
    let (network, _) = skb.left();
    let endpoints = skb.left_endpoints();
    let verdict = open_tunnelled::<A, _, _>(&mut skb, network, &Maps, endpoints);
    act(&mut Skb::new(ctx), network, verdict)
}

#[classifier]
pub(crate) fn encapsulate_v4(ctx: TcContext) -> i32 {
    send_in_tunnel::<V4>(&mut Skb::new(&ctx))
}

#[classifier]
pub(crate) fn encapsulate_v6(ctx: TcContext) -> i32 {
    send_in_tunnel::<V6>(&mut Skb::new(&ctx))
}

#[classifier]
pub(crate) fn forward_v4(ctx: TcContext) -> i32 {
    forward::<V4>(&mut Skb::new(&ctx))
}

#[classifier]
pub(crate) fn forward_v6(ctx: TcContext) -> i32 {
    forward::<V6>(&mut Skb::new(&ctx))
}
