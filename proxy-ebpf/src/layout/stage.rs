//! Programs that the others call, and what they may answer.

/// Hands the table of stages to the macro `$then`.
///
/// A row is: what the stage does; its name and number; the names of its programs for IPv4 and
/// IPv6; what becomes of a packet where the program is not there; the pipeline's function, in
/// the form in which it is called:
///
/// - `stage`: a method of `pipeline::Context`,
/// - `opening`: the same, with the source addresses that forwarded packets get,
/// - `hook`: the programs have a function of their own, `programs/stages.rs`.
#[macro_export]
macro_rules! for_each_stage {
    ($then:ident) => {
        $then! {
            /// Translates an ICMP error that came in.
            IngressError = 0: ingress_error_v4 ingress_error_v6, Pass, stage(ingress_error);
            /// Translates an ICMP error that goes out.
            EgressError = 1: egress_error_v4 egress_error_v6, Pass, stage(egress_error);
            /// Rejects: a reset or port unreachable, where nobody answers.
            Refuse = 2: refuse_v4 refuse_v6, Drop, hook(on_refuse);
            /// Answers a packet that is longer than the path MTU.
            TooBig = 3: too_big_v4 too_big_v6, Drop, hook(on_too_big);
            /// Sends a packet on.
            Forward = 4: forward_v4 forward_v6, Drop, hook(on_forward);
            /// Translates a fragment that came in. (5 was one of a pod; the programs of an
            /// agent before this one may still call it.)
            Fragment = 6: fragment_v4 fragment_v6, Pass, stage(ingress_fragment);
            /// Translates a fragment that goes out.
            EgressFragment = 7: egress_fragment_v4 egress_fragment_v6, Pass,
                stage(egress_fragment);
            /// Answers a packet whose TTL is exceeded.
            Expire = 8: expire_v4 expire_v6, Drop, stage(expire);
            /// Sends a packet to an endpoint's node in a tunnel.
            Encapsulate = 9: encapsulate_v4 encapsulate_v6, Drop, hook(on_encapsulate);
            /// Takes a packet out of a tunnel that another node has put it into.
            Decapsulate = 10: decapsulate_v4 decapsulate_v6, Pass, stage(decapsulate);
            /// The same for a packet that opens a flow.
            OpenTunnelled = 11: open_tunnelled_v4 open_tunnelled_v6, Pass,
                hook(on_open_tunnelled);
            /// Opens a flow from outside to a frontend with direct return.
            OpenDirect = 12: open_direct_v4 open_direct_v6, Drop, opening(open_direct);
            /// Translates a router's ICMP error about a tunnel into one for the client.
            TunnelError = 13: tunnel_error_v4 tunnel_error_v6, Pass, stage(tunnel_error);
            /// Selects the endpoint of a flow to a frontend, for the packet that is its first.
            Open = 14: open_v4 open_v6, Drop, opening(open);
            /// Notes a client's connection to an endpoint itself.
            NotePlain = 15: note_plain_v4 note_plain_v6, Pass, stage(note_plain);
            /// Notes a connection of this node from a port at which Services are reached.
            NoteOutgoing = 16: note_outgoing_v4 note_outgoing_v6, Pass, stage(note_outgoing);
            /// Looks who has the tuple of a flow whose endpoint is selected.
            Claim = 17: claim_v4 claim_v6, Drop, stage(claim);
            /// Selects the source port of a flow that cannot have its client's.
            SelectPort = 18: select_port_v4 select_port_v6, Drop, stage(select_port);
            /// Makes the record of a flow's replies.
            ClaimReply = 19: claim_reply_v4 claim_reply_v6, Drop, stage(claim_reply);
            /// Makes the record of a flow's client.
            ClaimClient = 20: claim_client_v4 claim_client_v6, Drop, stage(claim_client);
            /// Translates the packet that has made a flow.
            Translate = 21: translate_v4 translate_v6, Drop, stage(translate_first);
            /// Waits for another CPU that writes where the flow's record is to be.
            AwaitClaim = 22: await_claim_v4 await_claim_v6, Drop, stage(await_claim);
            /// Translates what leaves this host for an address that may be a Service's.
            FromHost = 23: from_host_v4 from_host_v6, Pass, stage(from_host);
            /// Hands a reply to this host's stack, as if it came by the route to its frontend.
            Deliver = 24: deliver_v4 deliver_v6, Pass, hook(on_deliver);
            /// Sends a translated reply by the device that leads from its frontend to its client.
            Reroute = 25: reroute_v4 reroute_v6, Pass, hook(on_reroute);
            /// Drops a packet, and tells who listens.
            TraceDrop = 26: trace_drop_v4 trace_drop_v6, Drop, hook(on_trace_drop);
            /// Selects another endpoint for a connection that was translated at its socket, and
            /// was not answered.
            Reopen = 27: reopen_v4 reopen_v6, Pass, opening(reopen);
            /// Notes from where such a one may be answered late.
            NoteRetried = 28: note_retried_v4 note_retried_v6, Pass, stage(note_retried);
        }
    };
}

macro_rules! stages {
    ($(
        $(#[$does:meta])* $stage:ident = $number:literal: $v4:ident $v6:ident,
            $_absent:ident, $_form:ident($_function:ident);
    )*) => {
        /// A part of the pipeline with a program of its own, which the others call. An index of
        /// `STAGES`, by twice this and the IP version.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Stage {
            $($(#[$does])* $stage = $number,)*
        }

        impl Stage {
            /// Every stage, with its programs for IPv4 and IPv6.
            pub const ALL: &[(Self, [&'static str; 2])] = &[
                $((Self::$stage, [stringify!($v4), stringify!($v6)]),)*
            ];
        }
    };
}

crate::for_each_stage!(stages);

impl Stage {
    /// The index of its program for IPv4 (0) or IPv6 (1).
    #[inline(always)]
    pub const fn index(self, version: u32) -> u32 {
        self as u32 * 2 + version
    }
}

/// Elements of `STAGES`: up to the last one of the table.
pub const STAGES: u32 = match Stage::ALL {
    [.., (last, _)] => last.index(1) + 1,
    [] => 0,
};

/// Elements of `ANSWERS`, of each CPU: for each kind of answer two, to Pods and to others.
pub const ANSWERS: u32 = 6;

/// An element of `ANSWERS`: how many resets and ICMP errors of a kind a CPU sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Answers {
    /// In which tick.
    pub tick: u32,
    /// How many.
    pub count: u32,
}

impl Answers {
    /// How many a CPU sends in a tick: about what the kernel allows itself of ICMP
    /// (`icmp_msgs_per_sec`).
    pub const LIMIT: u32 = 1000;

    /// Counts one more, or says that there were enough.
    #[inline(always)]
    pub fn take(&mut self, now: u32) -> bool {
        if self.tick != now {
            *self = Self {
                tick: now,
                count: 0,
            };
        }
        let is_allowed = self.count < Self::LIMIT;
        self.count += u32::from(is_allowed);
        is_allowed
    }
}
