//! What is counted.

/// Element of `SERVICE_TRAFFIC` by Service port id, and of `BACKEND_TRAFFIC_*` by backend
/// index: what was translated since the number's life began, both directions together.
/// Every CPU adds to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Traffic {
    /// Connections, and flows of datagrams.
    pub connections: u64,
    /// Packets.
    pub packets: u64,
}

/// Indices of `COUNTERS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Counter {
    /// Flows created.
    FlowsCreated = 0,
    /// Packets that the flow table had no room for; dropped.
    FlowTableFull = 1,
    /// Packets for which no source port was free; dropped.
    PortsExhausted = 2,
    /// Packets that are cut short or contradict themselves; never translated.
    Malformed = 3,
    /// Fragments to a ClusterIP whose first one was not seen, and first ones of SCTP whose
    /// ports would change; dropped.
    Fragments = 4,
    /// New connections to a Service without endpoints; rejected.
    NoEndpoints = 5,
    /// New connections under a Local policy without local endpoints; dropped.
    NoLocalEndpoints = 6,
    /// Packets that could not be sent on: no route, no address of this node, or
    /// their time to live ran out; dropped.
    Unroutable = 7,
    /// Packets that the kernel refused to change; dropped.
    RewriteFailed = 8,
    /// New connections to a load balancer address whose source ranges do not list the
    /// client; dropped.
    SourceNotAllowed = 9,
    /// New connections to a port that a ClusterIP does not have; rejected.
    NoSuchPort = 10,
    /// Packets to an address of a ServiceCIDR that no Service has, or has not for their
    /// protocol; dropped.
    NoSuchService = 11,
    /// Flow records that were not over and had to make way for new ones.
    RecordsEvicted = 12,
    /// Segments of TCP to a Service that belong to no connection; reset.
    NoConnection = 13,
    /// Packets that were dropped without an answer, because the rate limit of resets and ICMP
    /// errors was reached.
    RateLimited = 14,
    /// Packets longer than the path MTU; answered by an ICMP error.
    TooBig = 15,
    /// Packets that XDP has translated and passed to the stack.
    XdpPass = 16,
    /// Packets that XDP has sent on, or sent back.
    XdpTransmit = 17,
    /// Packets of TCP connections whose endpoint has been gone for long; the client gets
    /// a reset.
    EndpointGone = 18,
    /// Packets that were sent to an endpoint's node in a tunnel.
    Encapsulated = 19,
    /// Packets that were taken out of a tunnel from another node.
    Decapsulated = 20,
    /// Packets to a Service from an address that no client can have; dropped.
    MartianSource = 21,
    /// Packets whose flow record another CPU did not finish in time: a datagram was translated
    /// without it, another packet dropped.
    ClaimConflict = 22,
    /// Connections of TCP whose SYN was not answered and was sent again, to another endpoint if
    /// there is one.
    ConnectionRetried = 23,
    /// Connections that were sent to an endpoint that is avoided, to see whether it answers.
    EndpointTried = 24,
    /// Events for who listens that `TRACE_EVENTS` had no room for.
    EventsLost = 25,
    /// Connections of TCP that the endpoint has refused by a reset, in the place of an answer.
    ConnectionRefused = 26,
    /// Flows of UDP without an answer of which an ICMP error says that no way leads to the
    /// endpoint's host or network.
    FlowUnreachable = 27,
}

/// Elements of `COUNTERS`.
#[expect(clippy::cast_possible_truncation, reason = "some ten")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// Every counter with its name, in order of its index.
    pub const ALL: [(Self, &'static str); 28] = [
        (Self::FlowsCreated, "flows_created"),
        (Self::FlowTableFull, "flow_table_full"),
        (Self::PortsExhausted, "ports_exhausted"),
        (Self::Malformed, "malformed"),
        (Self::Fragments, "fragments"),
        (Self::NoEndpoints, "no_endpoints"),
        (Self::NoLocalEndpoints, "no_local_endpoints"),
        (Self::Unroutable, "unroutable"),
        (Self::RewriteFailed, "rewrite_failed"),
        (Self::SourceNotAllowed, "source_not_allowed"),
        (Self::NoSuchPort, "no_such_port"),
        (Self::NoSuchService, "no_such_service"),
        (Self::RecordsEvicted, "records_evicted"),
        (Self::NoConnection, "no_connection"),
        (Self::RateLimited, "rate_limited"),
        (Self::TooBig, "too_big"),
        (Self::XdpPass, "xdp_pass"),
        (Self::XdpTransmit, "xdp_transmit"),
        (Self::EndpointGone, "endpoint_gone"),
        (Self::Encapsulated, "encapsulated"),
        (Self::Decapsulated, "decapsulated"),
        (Self::MartianSource, "martian_source"),
        (Self::ClaimConflict, "claim_conflict"),
        (Self::ConnectionRetried, "connection_retried"),
        (Self::EndpointTried, "endpoint_tried"),
        (Self::EventsLost, "events_lost"),
        (Self::ConnectionRefused, "connection_refused"),
        (Self::FlowUnreachable, "flow_unreachable"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(it, _)| *it == self);
        found.map_or("unknown", |(_, name)| name)
    }

    /// Whether it counts packets that were not passed on, those that were answered too.
    #[must_use]
    pub const fn is_drop(self) -> bool {
        match self {
            Self::FlowTableFull
            | Self::PortsExhausted
            | Self::Fragments
            | Self::NoEndpoints
            | Self::NoLocalEndpoints
            | Self::Unroutable
            | Self::RewriteFailed
            | Self::SourceNotAllowed
            | Self::NoSuchPort
            | Self::NoSuchService
            | Self::NoConnection
            | Self::RateLimited
            | Self::TooBig
            | Self::EndpointGone
            | Self::MartianSource => true,
            Self::FlowsCreated
            | Self::Malformed
            | Self::RecordsEvicted
            | Self::XdpPass
            | Self::XdpTransmit
            | Self::Encapsulated
            | Self::Decapsulated
            | Self::ClaimConflict
            | Self::ConnectionRetried
            | Self::EndpointTried
            | Self::EventsLost
            | Self::ConnectionRefused
            | Self::FlowUnreachable => false,
        }
    }
}
