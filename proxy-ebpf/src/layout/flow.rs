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

/// Key of `FLOWS_*` and `OPENING_*`: the tuple of a packet as it arrives at the hook.
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
    /// The bits of `FILTER` without which no packet finds the record.
    pub fn filter(&self) -> FilterBits {
        if self.edge == Edge::Ingress as u8 {
            FilterBits::of_destination(&self.tuple.destination)
        } else {
            FilterBits::of_source(&self.tuple.source, self.tuple.source_port)
        }
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
/// last writer wins. (The BPF target has atomics of 64 bits only, and this is what
/// relaxed ones of 32 bits would compile to.)
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RelaxedU32(Cell<u32>);

// SAFETY: only aligned loads and stores of one word, which do not tear on the
// machines that eBPF runs on; on the host a record never leaves its thread.
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

/// Value of `FLOWS_*` and `OPENING_*`: what the packet becomes, and whose it is.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Flow<A> {
    /// The tuple that the packet gets.
    pub tuple: Tuple<A>,
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation when it was picked.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
    /// When a packet last used this record, in [`ticks`](super::ticks).
    pub last_seen: RelaxedU32,
    /// Bits of [`flow_flags`].
    pub flags: RelaxedU32,
    /// Packets that this record has translated; begins anew after 2^32.
    pub packets: RelaxedU32,
}

impl<A: Copy> Clone for Flow<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        Self {
            tuple: self.tuple,
            backend: self.backend,
            generation: self.generation,
            service: self.service,
            last_seen: RelaxedU32::new(self.last_seen.get()),
            flags: RelaxedU32::new(self.flags.get()),
            packets: RelaxedU32::new(self.packets.get()),
        }
    }
}

impl<A> Flow<A> {
    /// The flags.
    #[inline(always)]
    pub fn flags(&self) -> u32 {
        self.flags.get()
    }

    /// Sets `bits` in the flags. Not one atomic step: a lost bit is set again by
    /// the next packet that carries it, or costs a later timeout.
    #[inline(always)]
    pub fn mark(&self, bits: u32) {
        self.flags.set(self.flags() | bits);
    }
}

/// Bits of [`Flow::flags`].
pub mod flow_flags {
    /// The translated packet leaves this node by a FIB lookup, and its reply
    /// comes back to an ingress.
    pub const REDIRECT: u32 = 1;
    /// The backend is the client itself: out again by the device it came from.
    pub const HAIRPIN: u32 = 1 << 1;
    /// A FIN went this way.
    pub const FIN: u32 = 1 << 2;
    /// This is the record of the replies.
    pub const REPLY: u32 = 1 << 3;
    /// A RST went this way; in the record of the replies, either way.
    pub const RESET: u32 = 1 << 4;
    /// A packet went this way; only in the record of the replies.
    pub const SEEN_REPLY: u32 = 1 << 5;
    /// The client has sent a FIN; only in the record of the replies, which by itself
    /// says how its flow is.
    pub const CLIENT_FIN: u32 = 1 << 7;
    /// Both sides' FINs were acknowledged; only in the record of the replies.
    pub const CLOSED: u32 = 1 << 8;
    /// Netfilter translates the flow, which began before these programs: its packets
    /// pass as they are. Together with [`REPLY`]: there is no other half.
    pub const NETFILTER: u32 = 1 << 9;
    /// The flow is unestablished: no packet of the client since the first reply. Its records
    /// are in `OPENING_*`, where a flood of such flows evicts only its own kind; records of
    /// established flows are in `FLOWS_*`.
    pub const EMBRYONIC: u32 = 1 << 6;
    /// Together with [`REDIRECT`]: the packet stays as it is and leaves in a tunnel, whose
    /// ends, and the endpoint's port, are the record's tuple. Answers do not pass here, so
    /// that there is no record of replies.
    pub const DSR: u32 = 1 << 10;
}

/// Element of `NAT_PORTS`: a source port that translated packets may have.
pub type NatPort = Port;

/// Elements of `NAT_PORTS`: there are no more ports.
pub const NAT_PORTS: u32 = 1 << 16;
