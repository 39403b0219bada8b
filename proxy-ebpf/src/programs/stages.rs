//! Stages: parts of the pipeline with a program of their own, so that each program is of a
//! size that the kernel verifies. The hooks' programs call them and do not come back.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use proxy_ebpf::layout::{Stage, V4, V6};
use proxy_ebpf::pipeline::{Client, Context, IpVersion, Reason, Tables};

use crate::deliver::deliver;
use crate::forward::{Route, forward, reroute};
use crate::maps::Maps;
use crate::masquerade::OutputDeviceSource;
use crate::skb::Skb;
use crate::statics::STAGES;
use crate::tunnel::send_in_tunnel;
use crate::verdict::{NEXT, apply};

/// Goes on with a stage, for a packet whose IP header is at `network` and which is too long
/// for `mtu`, if that is not 0. Only where its program is not there does it come back,
/// with what to do instead.
#[inline(always)]
pub(crate) fn tail_call<A: Route>(skb: &mut Skb, stage: Stage, network: usize, mtu: u16) -> i32 {
    skb.store_cb(network, mtu);
    let context = TcContext::new(skb.raw());
    // SAFETY: the context of this program, and a map of its kind of programs.
    unsafe { STAGES.tail_call(&context, stage.index(A::VERSION)) };
    instead_of(stage)
}

/// A stage's program for one IP version: calls the pipeline's function in the form that the
/// table says.
macro_rules! program {
    ($name:ident: $address:ident = stage($function:ident)) => {
        program! { $name: $address, |context, _sources| context.$function() }
    };
    ($name:ident: $address:ident = opening($function:ident)) => {
        program! { $name: $address, |context, sources| context.$function(sources) }
    };
    ($name:ident: $address:ident = hook($function:ident)) => {
        #[classifier]
        pub(crate) fn $name(ctx: TcContext) -> i32 {
            $function::<$address>(&ctx)
        }
    };
    ($name:ident: $address:ident, |$context:ident, $sources:ident| $verdict:expr) => {
        #[classifier]
        // A call would take 32 bytes of 512 from the stack.
        #[inline(always)]
        pub(crate) fn $name(ctx: TcContext) -> i32 {
            let mut skb = Skb::new(&ctx);
            skb.make_linear();
            let (network, _) = skb.load_cb();
            let client = skb.load_client();
            let $sources = &OutputDeviceSource::from(&skb);
            let mut $context = Context::<$address, _, _>::new(&mut skb, network, &Maps, client);
            let verdict = $verdict;
            apply(&mut skb, network, verdict)
        }
    };
}

/// What becomes of a packet where a stage's program is not there.
macro_rules! instead {
    (Pass) => {
        NEXT
    };
    (Drop) => {
        TC_ACT_SHOT
    };
}

macro_rules! programs {
    ($(
        $(#[$_does:meta])* $stage:ident = $_number:literal: $v4:ident $v6:ident,
            $absent:ident, $form:ident($function:ident);
    )*) => {
        $(
            program! { $v4: V4 = $form($function) }
            program! { $v6: V6 = $form($function) }
        )*

        #[inline(always)]
        fn instead_of(stage: Stage) -> i32 {
            match stage {
                $(Stage::$stage => instead!($absent),)*
            }
        }
    };
}

proxy_ebpf::for_each_stage!(programs);

#[inline(always)]
fn on_refuse<A: Route + IpVersion>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let mut skb = Skb::new(ctx);
    skb.make_linear();
    let (network, reason) = skb.load_cb();
    let client = skb.load_client();
    let verdict = Context::<A, _, _>::new(&mut skb, network, &Maps, client).refuse(reason.into());
    apply(&mut skb, network, verdict)
}

#[inline(always)]
fn on_trace_drop<A: Route + IpVersion>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let mut skb: Skb = Skb::new(ctx);
    let (network, reason) = skb.load_cb();
    let client = skb.load_client();
    Context::<A, _, _>::new(&mut skb, network, &Maps, client).trace_drop(reason.into());
    TC_ACT_SHOT
}

#[inline(always)]
fn on_too_big<A: Route + IpVersion>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let mut skb = Skb::new(ctx);
    let (network, mtu) = skb.load_cb();
    let client = skb.load_client();
    let verdict =
        Context::<A, _, _>::new(&mut skb, network, &Maps, client).answer(Reason::TooBig(mtu));
    apply(&mut skb, network, verdict)
}

/// Of a packet without extension headers, as the other node has seen to.
#[inline(always)]
fn on_open_tunnelled<A: Route + IpVersion>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    let mut skb = Skb::<0>::new(ctx);
    skb.make_linear();
    let (network, _) = skb.load_cb();
    let endpoints = skb.load_endpoints();
    let verdict = Context::<A, _, _>::new(&mut skb, network, &Maps, Client::Outside)
        .open_tunnelled(endpoints);
    apply(&mut Skb::new(ctx), network, verdict)
}

#[inline(always)]
fn on_encapsulate<A: Route + IpVersion>(ctx: &TcContext) -> i32
where
    Maps: Tables<A>,
{
    send_in_tunnel::<A>(&mut Skb::new(ctx))
}

#[inline(always)]
fn on_deliver<A: Route + IpVersion>(ctx: &TcContext) -> i32 {
    deliver::<A>(&mut Skb::new(ctx))
}

#[inline(always)]
fn on_reroute<A: Route + IpVersion>(ctx: &TcContext) -> i32 {
    reroute::<A>(&mut Skb::new(ctx))
}

#[inline(always)]
fn on_forward<A: Route + IpVersion>(ctx: &TcContext) -> i32 {
    forward::<A>(&mut Skb::new(ctx))
}
