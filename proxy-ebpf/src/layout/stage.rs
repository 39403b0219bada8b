//! Programs that the others call, and what they may answer.

/// A part of the pipeline with a program of its own, which the others call. An index of
/// `STAGES`, by twice this and the IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Stage {
    /// Translates an ICMP error that came in.
    IngressError = 0,
    /// Translates an ICMP error that goes out.
    EgressError = 1,
    /// Tells the client that nobody answers.
    Refuse = 2,
    /// Tells the sender that a packet is too big for the way on.
    TooBig = 3,
    /// Sends a packet on.
    Forward = 4,
    /// Translates a fragment that came in. (5 was one of a pod; the programs of an agent
    /// before this one may still call it.)
    Fragment = 6,
    /// Translates a fragment that goes out.
    EgressFragment = 7,
    /// Tells the sender that a packet's time to live is over.
    Expire = 8,
    /// Sends a packet to an endpoint's node in a tunnel.
    Encapsulate = 9,
    /// Takes a packet out of a tunnel that another node has put it into.
    Decapsulate = 10,
    /// The same for a packet that opens a flow.
    OpenTunnelled = 11,
    /// Opens a flow from outside to a frontend with direct return.
    OpenDirect = 12,
    /// Tells a client what a router between the nodes has told of a tunnel.
    TunnelError = 13,
    /// Opens a flow to a frontend, for the packet that is its first.
    Open = 14,
}

impl Stage {
    /// Every stage, with its programs for IPv4 and IPv6.
    pub const ALL: [(Self, [&'static str; 2]); 14] = [
        (Self::IngressError, ["ingress_error_v4", "ingress_error_v6"]),
        (Self::EgressError, ["egress_error_v4", "egress_error_v6"]),
        (Self::Refuse, ["refuse_v4", "refuse_v6"]),
        (Self::TooBig, ["too_big_v4", "too_big_v6"]),
        (Self::Forward, ["forward_v4", "forward_v6"]),
        (Self::Fragment, ["fragment_v4", "fragment_v6"]),
        (
            Self::EgressFragment,
            ["egress_fragment_v4", "egress_fragment_v6"],
        ),
        (Self::Expire, ["expire_v4", "expire_v6"]),
        (Self::Encapsulate, ["encapsulate_v4", "encapsulate_v6"]),
        (Self::Decapsulate, ["decapsulate_v4", "decapsulate_v6"]),
        (
            Self::OpenTunnelled,
            ["open_tunnelled_v4", "open_tunnelled_v6"],
        ),
        (Self::OpenDirect, ["open_direct_v4", "open_direct_v6"]),
        (Self::TunnelError, ["tunnel_error_v4", "tunnel_error_v6"]),
        (Self::Open, ["open_v4", "open_v6"]),
    ];

    /// The index of its program for IPv4 (0) or IPv6 (1).
    #[inline(always)]
    pub const fn index(self, version: u32) -> u32 {
        self as u32 * 2 + version
    }
}

/// Elements of `STAGES`.
pub const STAGES: u32 = Stage::Open.index(1) + 1;

/// The one element of `ANSWERS`, of each CPU: how many resets and ICMP errors it sent.
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
