//! What the programs do around the pipeline: telling the IP versions apart.

use super::{Frame, Memory};
use crate::layout::{Address, Counter, Stage, Tuple, V4, V6};
use crate::pipeline::{
    AllCapabilities, Client, Context, Headers, HookCapabilities, IpVersion, Reason, Tables as _,
    Verdict, ethernet,
};

/// Where a packet is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// Ingress of a device.
    Ingress(Client),
    /// Ingress of an uplink with XDP: what that leaves goes on to [`Self::Ingress`].
    Xdp {
        /// Whether XDP can send packets, or only pass them on.
        can_send: bool,
    },
    /// Egress of a Pod's device or, of [`Client::Host`], of an uplink.
    Egress(Client),
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
    /// [`Verdict::Pass`] or [`Verdict::PassTranslated`]
    Pass,
    /// [`Verdict::Drop`]
    Drop,
    /// [`Verdict::Reinject`]
    Reinject,
    /// [`Verdict::Bounce`]
    Bounce,
    /// [`Verdict::Forward`]
    Forward,
    /// [`Verdict::Deliver`]
    Deliver,
}

/// Runs a packet through the pipeline as the programs do.
pub fn run(frame: &mut Frame, hook: Hook, link: Link, v4: &Memory<V4>, v6: &Memory<V6>) -> Action {
    if let Hook::Xdp { can_send } = hook {
        return run_xdp(frame, can_send, v4, v6).unwrap_or_else(|| {
            let hook = Hook::Ingress(Client::Outside);
            run(frame, hook, link, v4, v6)
        });
    }
    match network_header(frame, link) {
        Some((network, V4::ETHERTYPE)) => run_at(frame, network, hook, v4),
        Some((network, V6::ETHERTYPE)) => run_at(frame, network, hook, v6),
        _ => Action::Pass,
    }
}

/// What the programs do with a packet that was to be sent on and is longer than `mtu`.
pub fn run_too_big(
    frame: &mut Frame,
    link: Link,
    mtu: u16,
    v4: &Memory<V4>,
    v6: &Memory<V6>,
) -> Action {
    run_answer(frame, link, Reason::TooBig(mtu), v4, v6)
}

/// What the programs do with a packet that was to leave in a tunnel, and with that is longer
/// than `mtu`.
pub fn run_too_big_for_tunnel(
    frame: &mut Frame,
    link: Link,
    mtu: u16,
    v4: &Memory<V4>,
    v6: &Memory<V6>,
) -> Action {
    run_answer(frame, link, Reason::TooBigForTunnel(mtu), v4, v6)
}

fn run_answer(
    frame: &mut Frame,
    link: Link,
    reason: Reason,
    v4: &Memory<V4>,
    v6: &Memory<V6>,
) -> Action {
    let client = Client::Outside;
    match network_header(frame, link) {
        Some((network, V4::ETHERTYPE)) => {
            let verdict = Context::new(frame, network, v4, client).answer(reason);
            action(&go_through(verdict, frame, network, v4, client))
        }
        Some((network, V6::ETHERTYPE)) => {
            let verdict = Context::new(frame, network, v6, client).answer(reason);
            action(&go_through(verdict, frame, network, v6, client))
        }
        _ => Action::Pass,
    }
}

fn network_header(frame: &Frame, link: Link) -> Option<(usize, u16)> {
    match link {
        Link::Ethernet => ethernet(frame),
        Link::Ip(kind) => Some((0, kind)),
    }
}

fn run_at<A: IpVersion>(
    frame: &mut Frame,
    network: usize,
    hook: Hook,
    memory: &Memory<A>,
) -> Action {
    let (verdict, client) = match hook {
        Hook::Ingress(client) => (
            Context::new(frame, network, memory, client).ingress(&mut AllCapabilities),
            client,
        ),
        Hook::Xdp { .. } => (Verdict::Pass, Client::Outside),
        Hook::Egress(client) => (
            Context::new(frame, network, memory, client).egress(),
            client,
        ),
    };
    action(&go_through(verdict, frame, network, memory, client))
}

/// Tail calls that the kernel allows (`MAX_TAIL_CALL_CNT` in `include/linux/bpf.h`).
const TAIL_CALLS: usize = 33;

/// Runs the stages that a packet is to go through.
fn go_through<A: IpVersion>(
    mut verdict: Verdict<A>,
    frame: &mut Frame,
    network: usize,
    memory: &Memory<A>,
    client: Client,
) -> Verdict<A> {
    for _ in 0..TAIL_CALLS {
        let stage = match verdict {
            Verdict::Continue(stage) => stage,
            Verdict::OpenTunnelled(endpoints) => {
                let mut plain = Frame::<0>(std::mem::take(&mut frame.0));
                verdict =
                    Context::new(&mut plain, network, memory, client).open_tunnelled(endpoints);
                frame.0 = plain.0;
                continue;
            }
            Verdict::Refuse(reason) => {
                verdict = Context::new(frame, network, memory, client).refuse(reason as u32);
                continue;
            }
            _ => break,
        };
        verdict = run_stage(stage, frame, network, memory, client);
    }
    if let Verdict::Encapsulate(ends) = verdict
        && Context::new(frame, network, memory, client)
            .encapsulate(&ends)
            .is_none()
    {
        verdict = Verdict::Drop(Counter::RewriteFailed);
    }
    if let Verdict::Drop(reason) = verdict {
        Context::new(frame, network, memory, client).trace_drop(reason as u32);
    }
    verdict
}

/// Calls the pipeline's function for a stage in the form that the table says.
macro_rules! call {
    (stage($function:ident), $context:ident, $memory:ident) => {
        $context.$function()
    };
    (opening($function:ident), $context:ident, $memory:ident) => {
        $context.$function($memory)
    };
    // Of these the hooks decide.
    (hook($function:ident), $context:ident, $memory:ident) => {
        Verdict::Discard
    };
}

macro_rules! stages {
    ($(
        $(#[$_does:meta])* $stage:ident = $_number:literal: $_v4:ident $_v6:ident,
            $_absent:ident, $form:ident($function:ident);
    )*) => {
        fn run_stage<A: IpVersion>(
            stage: Stage,
            frame: &mut Frame,
            network: usize,
            memory: &Memory<A>,
            client: Client,
        ) -> Verdict<A> {
            let mut context = Context::new(frame, network, memory, client);
            match stage {
                $(Stage::$stage => call!($form($function), context, memory),)*
            }
        }
    };
}

crate::for_each_stage!(stages);

/// What is left to do; the stages have been gone through.
fn action<A>(verdict: &Verdict<A>) -> Action {
    match verdict {
        Verdict::Pass | Verdict::PassTranslated => Action::Pass,
        Verdict::Drop(_)
        | Verdict::Discard
        | Verdict::Refuse(_)
        | Verdict::Continue(_)
        | Verdict::OpenTunnelled(_) => Action::Drop,
        Verdict::Reinject => Action::Reinject,
        Verdict::Bounce => Action::Bounce,
        Verdict::Forward(_) | Verdict::Encapsulate(_) => Action::Forward,
        Verdict::Deliver => Action::Deliver,
    }
}

/// Runs a packet through the pipeline as XDP's program does; `None` where it leaves the
/// packet as it came.
fn run_xdp(frame: &mut Frame, can_send: bool, v4: &Memory<V4>, v6: &Memory<V6>) -> Option<Action> {
    let mut early = Frame::<0>(std::mem::take(&mut frame.0));
    let mut capabilities = FakeXdpCapabilities { can_send };
    let outside = Client::Outside;
    let (action, counter) = match ethernet(&early) {
        Some((network, V4::ETHERTYPE)) => {
            xdp_action(&Context::new(&mut early, network, v4, outside).ingress(&mut capabilities))
        }
        Some((network, V6::ETHERTYPE)) => {
            xdp_action(&Context::new(&mut early, network, v6, outside).ingress(&mut capabilities))
        }
        _ => (None, None),
    };
    frame.0 = early.0;
    if let Some(counter) = counter {
        v4.count(counter);
    }
    action
}

fn xdp_action<A>(verdict: &Verdict<A>) -> (Option<Action>, Option<Counter>) {
    match verdict {
        Verdict::Pass
        | Verdict::Continue(_)
        | Verdict::Refuse(_)
        | Verdict::Reinject
        | Verdict::Deliver
        | Verdict::Encapsulate(_)
        | Verdict::OpenTunnelled(_) => (None, None),
        Verdict::PassTranslated => (Some(Action::Pass), Some(Counter::XdpPass)),
        Verdict::Drop(_) | Verdict::Discard => (Some(Action::Drop), None),
        Verdict::Bounce => (Some(Action::Bounce), Some(Counter::XdpTransmit)),
        Verdict::Forward(_) => (Some(Action::Forward), Some(Counter::XdpTransmit)),
    }
}

/// What XDP can do with packets here.
struct FakeXdpCapabilities {
    can_send: bool,
}

impl<A> HookCapabilities<A> for FakeXdpCapabilities {
    const HAS_NEXT_HOOK: bool = true;

    fn is_for_this_host(&mut self) -> bool {
        true
    }

    fn can_pass(&mut self) -> bool {
        true
    }

    fn can_bounce(&mut self) -> bool {
        self.can_send
    }

    fn can_forward(&mut self, _: &Headers<A>, _: &Tuple<A>) -> bool {
        self.can_send
    }
}
