//! Flows: what becomes of a packet with a tuple.

use core::cell::Cell;

use super::{Address, FilterBits, Port};

/// Where a flow's packet meets this node; part of the key, so that a packet only
/// ever finds a record that is meant for the hook it is at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Edge {
    /// Ingress of a device.
    Ingress = 0,
    /// Egress of a device.
    Egress = 1,
}

/// Key of a flow record: the tuple of a packet as it arrives at the hook.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey<A> {
    /// Source and destination.
    pub tuple: Tuple<A>,
    /// IP protocol number.
    pub protocol: u8,
    /// An [`Edge`].
    pub edge: u8,
    /// Zero.
    pub pad: u16,
}

impl<A> FlowKey<A> {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(tuple: Tuple<A>, protocol: u8, edge: Edge) -> Self {
        Self {
            tuple,
            protocol,
            edge: edge as u8,
            pad: 0,
        }
    }
}

impl<A: Address> FlowKey<A> {
    /// The key by its parts.
    #[inline(always)]
    pub const fn by_parts(&self) -> KeyParts<'_, A> {
        KeyParts {
            source: &self.tuple.source,
            destination: &self.tuple.destination,
            ports: [self.tuple.source_port, self.tuple.destination_port],
            protocol: self.protocol,
            edge: self.edge,
        }
    }

    /// The bits of `FILTER` without which no packet finds the record.
    pub fn filter(&self) -> FilterBits {
        if self.edge == Edge::Ingress as u8 {
            FilterBits::of_destination(&self.tuple.destination)
        } else {
            FilterBits::of_source(&self.tuple.source, self.tuple.source_port)
        }
    }
}

/// A [`FlowKey`] whose addresses are somewhere else: the stack of a program has no room for many
/// of them.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a, A> {
    /// Source address.
    pub source: &'a A,
    /// Destination address.
    pub destination: &'a A,
    /// Source and destination port.
    pub ports: [Port; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// An [`Edge`].
    pub edge: u8,
}

impl<'a, A: Address> KeyParts<'a, A> {
    /// The key of packets with this tuple.
    #[inline(always)]
    pub const fn of(tuple: &'a Tuple<A>, protocol: u8, edge: Edge) -> Self {
        Self {
            source: &tuple.source,
            destination: &tuple.destination,
            ports: [tuple.source_port, tuple.destination_port],
            protocol,
            edge: edge as u8,
        }
    }

    /// The key of answers to packets with this tuple.
    #[inline(always)]
    pub const fn of_answers(tuple: &'a Tuple<A>, protocol: u8, edge: Edge) -> Self {
        Self {
            source: &tuple.destination,
            destination: &tuple.source,
            ports: [tuple.destination_port, tuple.source_port],
            protocol,
            edge: edge as u8,
        }
    }

    /// Whether it is this key's, without a branch for each word.
    #[inline(always)]
    pub fn are_of(&self, key: &FlowKey<A>) -> bool {
        let [source, destination] = self.ports;
        let ports = (source.raw() ^ key.tuple.source_port.raw())
            | (destination.raw() ^ key.tuple.destination_port.raw());
        let kinds = (self.protocol ^ key.protocol) | (self.edge ^ key.edge);
        let mut difference = u32::from(ports) | u32::from(kinds);
        for (a, b) in [
            (self.source, &key.tuple.source),
            (self.destination, &key.tuple.destination),
        ] {
            for (a, b) in a.words().iter().zip(b.words()) {
                difference |= a ^ b;
            }
        }
        difference == 0
    }
}

/// The addresses and ports of a packet, in the order in which they lie in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Port,
    /// Destination port.
    pub destination_port: Port,
}

impl<A: Address> Tuple<A> {
    /// Whether both are the same. Without a branch for each word: the kernel's verifier
    /// would follow each.
    #[inline(always)]
    pub fn is(&self, other: &Self) -> bool {
        let ports = self.source_port.raw() ^ other.source_port.raw()
            | self.destination_port.raw() ^ other.destination_port.raw();
        let mut difference = u32::from(ports);
        for (a, b) in [
            (&self.source, &other.source),
            (&self.destination, &other.destination),
        ] {
            for (a, b) in a.words().iter().zip(b.words()) {
                difference |= a ^ b;
            }
        }
        difference == 0
    }
}

impl<A: Address> Tuple<A> {
    /// Whether this is the tuple of an answer to packets with the other.
    #[inline(always)]
    pub fn answers(&self, other: &Self) -> bool {
        KeyParts::of_answers(other, 0, Edge::Ingress).are_of(&FlowKey::new(*self, 0, Edge::Ingress))
    }
}

impl<A: Copy> Tuple<A> {
    /// The tuple of an answer.
    #[must_use]
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }
}

/// A number in a map that every CPU reads and writes in place, without order: the
/// last writer wins.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RelaxedU32(Cell<u32>);

// SAFETY: only aligned loads and stores of one word, which do not tear on the
// machines that eBPF runs on; on the host a record never leaves its thread, or is
// copied from memory that the kernel shares.
#[expect(unsafe_code, reason = "a map's values are shared by all CPUs")]
unsafe impl Sync for RelaxedU32 {}

impl RelaxedU32 {
    /// A number.
    #[inline(always)]
    pub const fn new(value: u32) -> Self {
        Self(Cell::new(value))
    }

    /// Reads it.
    #[inline(always)]
    pub fn get(&self) -> u32 {
        self.0.get()
    }

    /// Writes it.
    #[inline(always)]
    pub fn set(&self, value: u32) {
        self.0.set(value);
    }
}

impl Clone for RelaxedU32 {
    #[inline(always)]
    fn clone(&self) -> Self {
        Self::new(self.get())
    }
}

/// A flow record: what a packet with a tuple becomes, and to which flow it belongs. Its flags
/// and its age are beside it ([`WayState`]).
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Flow<A> {
    /// Which packets it is for.
    pub key: FlowKey<A>,
    /// The tuple that these packets get.
    pub tuple: Tuple<A>,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation when it was picked.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
    /// Packets that this record has translated; begins anew after 2^32.
    pub packets: RelaxedU32,
    /// TCP's acknowledgment number in the last packet that this record translated.
    pub acknowledged: RelaxedU32,
    /// Sequence numbers of TCP, of the client and of the endpoint; only in the record of the
    /// replies. While the flow is unestablished: what follows the SYN. After that, with the
    /// flags of a FIN: what follows the FIN.
    pub ends: [RelaxedU32; 2],
    /// SYNs on an established connection that the endpoint has not answered: how many, in the
    /// lowest eight bits, each in a tick of its own; the last one's tick above. Only in the
    /// record of the replies.
    pub unanswered_syns: RelaxedU32,
    /// Zero.
    pub pad: u32,
}

/// A flow that is about to be made: what its client's packets become, and why. The one element of
/// `NEW_FLOW_*`, of each CPU.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NewFlow<A> {
    /// The tuple that these packets get.
    pub tuple: Tuple<A>,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// Bits of [`new_flow_notes`].
    pub notes: u32,
    /// Source ports that were tried.
    pub port_attempts: u32,
    /// A port of those, in network byte order, whose flow can lose it, with a bit above; else 0.
    pub reclaimable_port: u32,
    /// How often another CPU was in the way of a claim.
    pub claim_conflicts: u32,
    /// Where that was: the index of a bucket.
    pub awaited: u32,
}

/// Bits of [`NewFlow::notes`].
pub mod new_flow_notes {
    /// The packet came in a tunnel: another node knows the connection, whatever segment it is.
    pub const TUNNELLED: u32 = 1;
    /// The client's record is there; its tuple stays.
    pub const EXISTING: u32 = 1 << 1;
    /// There is no other way than to take the tuple from a flow that is not over.
    pub const RECLAIMS: u32 = 1 << 2;
    /// Its source port is selected.
    pub const HAS_PORT: u32 = 1 << 3;
    /// Its endpoint is not selected: the packet may go on with a flow that is there.
    pub const UNPICKED: u32 = 1 << 4;
    /// The client's record was made for this packet.
    pub const CREATED: u32 = 1 << 5;
    /// It was translated at its socket before.
    pub const RETRIED: u32 = 1 << 6;
    /// How far up the two bits are that say in which round its next record is claimed
    /// ([`Round`](crate::flow_table::Round)).
    pub const ROUND_SHIFT: u32 = 7;
}

/// The state of a way of a bucket, beside its record.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct WayState {
    /// When a packet last used the record, in [`ticks`](super::ticks).
    pub last_seen: RelaxedU32,
    /// Bits of [`flow_flags`].
    pub flags: RelaxedU32,
}

/// Bits of [`WayState::flags`].
pub mod flow_flags {
    use crate::layout::protocol;

    /// The translated packet leaves this node by a FIB lookup, and its reply
    /// comes back to an ingress.
    pub const REDIRECT: u32 = 1;
    /// The backend is the client itself: out again by the device it came from.
    pub const HAIRPIN: u32 = 1 << 1;
    /// The endpoint has sent a FIN; as all of what follows about the end of a connection, only
    /// in the record of the replies, which by itself says how its flow is. (With [`DSR`], in
    /// the only record there is.)
    pub const FIN: u32 = 1 << 2;
    /// This is the record of the replies.
    pub const REPLY: u32 = 1 << 3;
    /// The connection was reset, by an RST with a number that only its ends know.
    pub const RESET: u32 = 1 << 4;
    /// The endpoint has answered.
    pub const SEEN_REPLY: u32 = 1 << 5;
    /// The flow is unestablished: no packet of the client since the first reply.
    pub const EMBRYONIC: u32 = 1 << 6;
    /// The client has sent a FIN.
    pub const CLIENT_FIN: u32 = 1 << 7;
    /// The flow is over: both sides' FINs were acknowledged, or another flow has its tuple. The
    /// record translates late packets until its way is needed.
    pub const CLOSED: u32 = 1 << 8;
    /// Netfilter translates the flow, which began before these programs: its packets
    /// pass as they are. Together with [`REPLY`]: there is no other half.
    pub const NETFILTER: u32 = 1 << 9;
    /// Together with [`REDIRECT`]: the packet stays as it is and leaves in a tunnel, whose
    /// ends, and the endpoint's port, are the record's tuple. Answers do not pass here, so
    /// that there is no record of replies.
    pub const DSR: u32 = 1 << 10;
    /// A connection that nobody here translates has this tuple: packets pass as they are.
    /// Together with [`REPLY`]: there is no other half.
    pub const PLAIN: u32 = 1 << 11;
    /// The client has acknowledged the endpoint's FIN.
    pub const FIN_ACKNOWLEDGED: u32 = 1 << 12;
    /// The endpoint has acknowledged the client's FIN.
    pub const CLIENT_FIN_ACKNOWLEDGED: u32 = 1 << 13;
    /// `unanswered_syns` is not 0.
    pub const UNANSWERED_SYN: u32 = 1 << 14;
    /// Together with [`REDIRECT`]: the client is this host, or is behind its stack. What comes
    /// back to it goes up through that.
    pub const HOST_CLIENT: u32 = 1 << 15;
    /// A flow of TCP.
    pub const TCP: u32 = 1 << 16;
    /// A flow of SCTP.
    pub const SCTP: u32 = 1 << 17;
    /// Together with [`CLOSED`], in the client's record: the endpoint has not answered the SYN,
    /// and the next one is to go to another endpoint. In the record of the replies of a flow of UDP: it
    /// was noted that nobody can reach the endpoint.
    pub const UNANSWERED: u32 = 1 << 18;

    /// The flag of an IP protocol number; none of UDP.
    #[inline(always)]
    #[must_use]
    pub const fn of_protocol(number: u8) -> u32 {
        match number {
            protocol::TCP => TCP,
            protocol::SCTP => SCTP,
            _ => 0,
        }
    }
}

/// How long flows are remembered without packets, in [`ticks`](super::ticks).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Timeouts {
    /// Established connections of TCP.
    pub tcp_established: u32,
    /// Connections of TCP of which one side is closed.
    pub tcp_close_wait: u32,
    /// Unestablished flows of UDP.
    pub udp: u32,
    /// Established flows of UDP.
    pub udp_stream: u32,
}

/// The one element of `FLOW_SEED`: what makes the places of flows unpredictable.
pub type FlowSeed = u32;

/// Element of `NAT_PORTS`: a source port that translated packets may have.
pub type NatPort = Port;

/// Elements of `NAT_PORTS`: there are no more ports.
pub const NAT_PORTS: u32 = 1 << 16;
