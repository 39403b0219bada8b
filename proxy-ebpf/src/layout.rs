//! Keys and values of the kernel's maps: the contract between the agent and the
//! programs.
//!
//! Every type is `#[repr(C)]`, has no padding that is not a named, zeroed field,
//! and has its size asserted below. Addresses and ports are in network byte
//! order as they are in a packet, everything else is in the machine's order.
//!
//! [`VERSION`] names this layout; it changes with any change to this file that
//! an older reader would misread.

use core::cell::Cell;
use core::fmt::Debug;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of this layout; maps are pinned under it.
pub const VERSION: u32 = 4;

/// Bytes that may lie in a packet or in a map: any bit pattern is a value.
///
/// # Safety
///
/// The type is `#[repr(C)]` or primitive, has no padding, and every bit pattern
/// of its size is valid.
#[expect(unsafe_code, reason = "a promise about memory layout")]
pub unsafe trait Bytes: Copy {}

/// An address of one IP version, in network byte order.
///
/// Held as 32-bit words: the BPF target would move bytes one by one.
pub trait Address: Bytes + Eq + Hash + Debug + Default + 'static {
    /// The EtherType of packets of this version.
    const ETHERTYPE: u16;
    /// The 32-bit words of the address.
    fn words(&self) -> &[u32];
    /// Whether it is 127.0.0.0/8 or `::1`, the host's own way to itself.
    fn is_loopback(&self) -> bool;
}

/// An IPv4 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct V4(pub [u32; 1]);

/// An IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct V6(pub [u32; 4]);

impl Address for V4 {
    const ETHERTYPE: u16 = 0x0800;

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        u32::from_be(self.0[0]) >> 24 == 127
    }
}

impl Address for V6 {
    const ETHERTYPE: u16 = 0x86dd;

    #[inline(always)]
    fn words(&self) -> &[u32] {
        &self.0
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        let [first, second, third, last] = self.0;
        first | second | third | (last ^ 1_u32.to_be()) == 0
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self([u32::from(address).to_be()])
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        let bits = u128::from(address);
        Self([96, 64, 32, 0].map(|shift| word(bits >> shift).to_be()))
    }
}

impl From<V4> for IpAddr {
    fn from(V4([word]): V4) -> Self {
        Ipv4Addr::from(u32::from_be(word)).into()
    }
}

impl From<V6> for IpAddr {
    fn from(V6(words): V6) -> Self {
        let bits = words
            .iter()
            .fold(0, |bits, word| bits << 32 | u128::from(u32::from_be(*word)));
        Ipv6Addr::from(bits).into()
    }
}

/// The lowest 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "cut off on purpose")]
const fn word(bits: u128) -> u32 {
    bits as u32
}

/// A transport port, in network byte order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Port(u16);

impl Port {
    /// A port from its number.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The port's number.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The two bytes as they are in memory.
    #[inline(always)]
    pub const fn raw(self) -> u16 {
        self.0
    }
}

/// Protocol numbers (IANA).
pub mod protocol {
    /// Internet Control Message Protocol.
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol.
    pub const TCP: u8 = 6;
    /// User Datagram Protocol.
    pub const UDP: u8 = 17;
    /// IPv4 inside of IP (RFC 2003).
    pub const IPIP: u8 = 4;
    /// IPv6 inside of IP (RFC 2473).
    pub const IPV6: u8 = 41;
    /// Internet Control Message Protocol for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Stream Control Transmission Protocol.
    pub const SCTP: u8 = 132;
}

/// Key of `FRONTENDS_*`. A NodePort lies under the zero address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct FrontendKey<A> {
    /// Destination address.
    pub address: A,
    /// Destination port.
    pub port: Port,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub pad: u8,
}

impl<A> FrontendKey<A> {
    /// A key from its parts.
    #[inline(always)]
    pub const fn new(address: A, port: Port, protocol: u8) -> Self {
        Self {
            address,
            port,
            protocol,
            pad: 0,
        }
    }
}

/// A contiguous run of `SLOTS`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Span {
    /// Position of the first slot.
    pub start: u32,
    /// Number of slots.
    pub len: u32,
}

/// Value of `FRONTENDS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Frontend {
    /// The Service port's id; stable while the Service port exists.
    pub service: u32,
    /// Bits of [`frontend_flags`].
    pub flags: u32,
    /// ClientIP affinity in seconds; 0 is none.
    pub affinity_seconds: u32,
    /// The cluster set.
    pub cluster: Span,
    /// The local set.
    pub local: Span,
}

/// Bits of [`Frontend::flags`].
pub mod frontend_flags {
    /// Reached from outside the cluster (NodePort, load balancer, external
    /// address): pods of this node use the cluster set whatever the policy.
    pub const EXTERNAL: u32 = 1;
    /// This frontend's traffic policy is Local.
    pub const LOCAL_POLICY: u32 = 1 << 1;
    /// Only sources in the Service port's `SOURCE_RANGES_*` may use this frontend.
    pub const SOURCE_RANGES: u32 = 1 << 2;
    /// New connections go where their tuple leads, on every node the same: the sets are
    /// tables for consistent hashing.
    pub const HASHED: u32 = 1 << 3;
    /// New connections from outside reach endpoints of other nodes in a tunnel, and are
    /// answered from there (direct server return); other nodes' tunnels end here.
    pub const DSR: u32 = 1 << 4;
}

/// Value of `NODE_ADDRS_*`; only its presence counts.
pub type NodeAddress = u32;

/// Elements of `DEVICE_ADDRS_*`: under the indices of devices, the address with which
/// packets leave by each that are sent on with this node's address.
pub const DEVICE_ADDRESSES: u32 = 1024;

/// Element of `SLOTS`: two backend indices, since the kernel rounds an array's
/// elements up to 8 bytes. Position `p` is half `p & 1` of element `p >> 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SlotPair(pub [u32; 2]);

/// Element of `BACKENDS_*`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Backend<A> {
    /// The endpoint's address.
    pub address: A,
    /// The endpoint's port.
    pub port: Port,
    /// Bits of [`backend_flags`].
    pub flags: u16,
    /// Odd while the endpoint serves. Each beginning and each end of a life adds
    /// one, so a record that holds (index, generation) goes stale by itself. A
    /// [`RESET_STEP`] is added where connections to an endpoint that is gone are reset.
    pub generation: u32,
    /// The Service port's id.
    pub service: u32,
}

impl<A> Backend<A> {
    /// Whether a record made at `generation` still names this endpoint, and the
    /// endpoint still serves.
    #[inline(always)]
    pub fn is_current(&self, generation: u32) -> bool {
        self.generation == generation && generation & 1 == 1
    }

    /// Whether TCP connections that were made at `generation` are to be reset.
    #[inline(always)]
    pub fn resets(&self, generation: u32) -> bool {
        let age = self.generation.wrapping_sub(generation).cast_signed();
        age >= RESET_STEP.cast_signed()
    }
}

/// What a backend's generation is raised by when its endpoint has been gone for so long
/// that TCP connections to it are reset. Even, as it begins no life; and more lives than
/// an index has between two such steps.
pub const RESET_STEP: u32 = 1 << 24;

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// Runs on this node.
    pub const LOCAL: u16 = 1;
    /// Is in its Service port's cluster set. Kept for those with affinity only.
    pub const IN_CLUSTER_SET: u16 = 1 << 1;
    /// Is in its Service port's local set. Kept for those with affinity only.
    pub const IN_LOCAL_SET: u16 = 1 << 2;
}

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
pub struct Racy(Cell<u32>);

// SAFETY: only aligned loads and stores of one word, which do not tear on the
// machines that eBPF runs on; on the host a record never leaves its thread.
#[expect(unsafe_code, reason = "a map's values are shared by all CPUs")]
unsafe impl Sync for Racy {}

impl Racy {
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
    /// When a packet last used this record, in [`ticks`].
    pub seen: Racy,
    /// Bits of [`flow_flags`].
    pub flags: Racy,
    /// Packets that this record has translated; begins anew after 2^32.
    pub packets: Racy,
}

impl<A: Copy> Clone for Flow<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        Self {
            tuple: self.tuple,
            backend: self.backend,
            generation: self.generation,
            service: self.service,
            seen: Racy::new(self.seen.get()),
            flags: Racy::new(self.flags.get()),
            packets: Racy::new(self.packets.get()),
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
    pub const ANSWERED: u32 = 1 << 5;
    /// The client has sent a FIN; only in the record of the replies, which by itself
    /// says how its flow is.
    pub const CLIENT_FIN: u32 = 1 << 7;
    /// Both sides' FINs were acknowledged; only in the record of the replies.
    pub const FINISHED: u32 = 1 << 8;
    /// Netfilter translates the flow, which began before these programs: its packets
    /// pass as they are. Together with [`REPLY`]: there is no other half.
    pub const FOREIGN: u32 = 1 << 9;
    /// The flow is opening: the client has not been heard again after an answer. Its
    /// records lie in `OPENING_*`, where a flood of such flows pushes out only its
    /// like; those of an open flow lie in `FLOWS_*`.
    pub const OPENING: u32 = 1 << 6;
    /// Together with [`REDIRECT`]: the packet stays as it is and leaves in a tunnel, whose
    /// ends, and the endpoint's port, are the record's tuple. Answers do not pass here, so
    /// that there is no record of replies.
    pub const DSR: u32 = 1 << 10;
}

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

/// Element of `NAT_PORTS`: a source port that translated packets may have.
pub type NatPort = Port;

/// Elements of `NAT_PORTS`: there are no more ports.
pub const NAT_PORTS: u32 = 1 << 16;

/// What a prefix of `SOURCE_RANGES_*` matches, behind its length in bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct SourceRange<A> {
    /// The Service port's id; all of its bits count.
    pub service: u32,
    /// The beginning of the client's address.
    pub source: A,
}

impl<A> SourceRange<A> {
    /// The length of a prefix that matches all of an address.
    #[expect(clippy::cast_possible_truncation, reason = "160 at most")]
    pub const WHOLE: u32 = size_of::<Self>() as u32 * 8;
}

/// Value of `SOURCE_RANGES_*`; only its presence counts.
pub type Allowed = u32;

/// Key of `AFFINITY_*`: who is sent where he was sent before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
#[repr(C)]
pub struct AffinityKey<A> {
    /// The client's address.
    pub client: A,
    /// The Service port's id: its frontends share what they remember.
    pub service: u32,
}

/// Value of `AFFINITY_*`: the endpoint of a client's last connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Affinity {
    /// Index of the backend.
    pub backend: u32,
    /// The backend's generation then.
    pub generation: u32,
    /// When that was, in [`ticks`].
    pub seen: u32,
}

/// Value of `CLUSTER_IPS_*`; only its presence counts.
pub type ClusterIp = u32;

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Range<A> {
    /// Its first address.
    pub first: A,
    /// The bits of an address that count; none in a range that is not there.
    pub mask: A,
}

impl<A: Address> Range<A> {
    /// Whether the range is there and `address` is in it.
    #[inline(always)]
    pub fn contains(&self, address: &A) -> bool {
        let mut difference = 0;
        let mut bits = 0;
        let words = self.first.words().iter().zip(self.mask.words());
        for ((first, mask), word) in words.zip(address.words()) {
            difference |= (first ^ word) & mask;
            bits |= mask;
        }
        bits != 0 && difference == 0
    }
}

/// How many ranges of ClusterIPs of one IP version are looked after.
pub const SERVICE_RANGES: usize = 2;

/// The one element of `SETTINGS_*`: what may change while the programs run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Settings<A> {
    /// The node's address, for flows that need SNAT; zero when there is none.
    pub node_address: A,
    /// How many of `NAT_PORTS` are in use, from the first.
    pub nat_ports: u32,
    /// Bits of [`settings_flags`].
    pub flags: u32,
    /// Where ClusterIPs are: what is sent to another one leads nowhere.
    pub service_ranges: [Range<A>; SERVICE_RANGES],
}

/// Bits of [`Settings::flags`].
pub mod settings_flags {
    /// Outside clients are translated also when the backend is on this node.
    pub const MASQUERADE_ALL: u32 = 1;
    /// TCP connections to an endpoint that is gone are reset, by
    /// [`RESET_STEP`](super::RESET_STEP).
    pub const RESET_GONE: u32 = 1 << 1;
}

/// Key of `FRAGMENTS_*`: a packet of which fragments are seen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct FragmentKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Its identification, as it is in the packet.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// An [`Edge`].
    pub edge: u8,
    /// Zero.
    pub pad: u16,
}

/// Value of `FRAGMENTS_*`: what became of the first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Fragment<A> {
    /// The source address that it got.
    pub source: A,
    /// The destination address that it got.
    pub destination: A,
    /// Bits of [`flow_flags`].
    pub flags: u32,
    /// When that was, in [`ticks`].
    pub seen: u32,
}

/// Elements of `FRAGMENTS_*`: packets in fragments that are on their way at one time.
pub const FRAGMENTS: u32 = 8192;

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
    /// Translates a fragment that came in from a pod.
    PodFragment = 5,
    /// Translates a fragment that came in from anybody else.
    OutsideFragment = 6,
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
}

impl Stage {
    /// Every stage, with its programs for IPv4 and IPv6.
    pub const ALL: [(Self, [&'static str; 2]); 14] = [
        (Self::IngressError, ["ingress_error_v4", "ingress_error_v6"]),
        (Self::EgressError, ["egress_error_v4", "egress_error_v6"]),
        (Self::Refuse, ["refuse_v4", "refuse_v6"]),
        (Self::TooBig, ["too_big_v4", "too_big_v6"]),
        (Self::Forward, ["forward_v4", "forward_v6"]),
        (Self::PodFragment, ["pod_fragment_v4", "pod_fragment_v6"]),
        (
            Self::OutsideFragment,
            ["outside_fragment_v4", "outside_fragment_v6"],
        ),
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
    ];

    /// The index of its program for IPv4 (0) or IPv6 (1).
    #[inline(always)]
    pub const fn index(self, version: u32) -> u32 {
        self as u32 * 2 + version
    }
}

/// Elements of `STAGES`.
#[expect(clippy::cast_possible_truncation, reason = "a handful")]
pub const STAGES: u32 = Stage::ALL.len() as u32 * 2;

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

/// Value of `XDP_DEVICES`, which lie under the indices of devices: bits of [`xdp_ways`].
pub type XdpWays = u32;

/// Elements of `XDP_DEVICES`.
pub const XDP_DEVICES: u32 = 1024;

/// What XDP can do with a device.
pub mod xdp_ways {
    /// Send packets out of it that came in by it (`XDP_TX`).
    pub const RETURN: u32 = 1;
    /// Send packets out of it, whatever device they came in by (`XDP_REDIRECT`).
    pub const REDIRECT: u32 = 1 << 1;
}

/// Indices of `COUNTERS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Counter {
    /// Flows made.
    FlowsMade = 0,
    /// Packets that the flow table had no room for; dropped.
    FlowTableFull = 1,
    /// Packets for which no source port was free; dropped.
    PortsExhausted = 2,
    /// Packets that are cut short or contradict themselves; passed untouched.
    Malformed = 3,
    /// Fragments to a ClusterIP whose first one was not seen, and first ones of SCTP whose
    /// ports would change; dropped.
    Fragments = 4,
    /// New connections to a Service without endpoints; the client is told.
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
    /// New connections to a port that a ClusterIP does not have; the client is told.
    NoSuchPort = 10,
    /// Packets to an address of a ServiceCIDR that no Service has; dropped.
    NoSuchService = 11,
    /// Flow records that were made where there was none.
    RecordsMade = 12,
    /// Flow records that were removed: what was made and neither removed nor there was
    /// evicted.
    RecordsRemoved = 13,
    /// Packets whose sender would have been told what became of them, but many had
    /// just been told such things; dropped.
    AnswersLimited = 14,
    /// Packets that were too big for the way on; dropped, and their sender is told.
    TooBig = 15,
    /// Packets that XDP has translated and passed to the stack.
    XdpDelivered = 16,
    /// Packets that XDP has sent on, or sent back.
    XdpSent = 17,
    /// Packets of TCP connections whose endpoint has been gone for long; the client is
    /// told.
    EndpointGone = 18,
    /// Packets that were sent to an endpoint's node in a tunnel.
    Encapsulated = 19,
    /// Packets that were taken out of a tunnel from another node.
    Decapsulated = 20,
}

/// Elements of `COUNTERS`.
#[expect(clippy::cast_possible_truncation, reason = "some ten")]
pub const COUNTERS: u32 = Counter::ALL.len() as u32;

impl Counter {
    /// Every counter with its name, in order of its index.
    pub const ALL: [(Self, &'static str); 21] = [
        (Self::FlowsMade, "flows_made"),
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
        (Self::RecordsMade, "records_made"),
        (Self::RecordsRemoved, "records_removed"),
        (Self::AnswersLimited, "answers_limited"),
        (Self::TooBig, "too_big"),
        (Self::XdpDelivered, "xdp_delivered"),
        (Self::XdpSent, "xdp_sent"),
        (Self::EndpointGone, "endpoint_gone"),
        (Self::Encapsulated, "encapsulated"),
        (Self::Decapsulated, "decapsulated"),
    ];
}

/// Time as the records have it: units of 2^30 ns, about 1.07 s, since boot. A
/// shift in the kernel, where a division would be a multiplication and a shift.
pub mod ticks {
    /// Ticks of a time in nanoseconds.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "136 years of uptime")]
    pub const fn from_nanoseconds(ns: u64) -> u32 {
        (ns >> 30) as u32
    }

    /// Ticks in `seconds`, rounded up.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "smaller than its argument")]
    pub const fn from_seconds(seconds: u32) -> u32 {
        from_nanoseconds_up(seconds as u64 * 1_000_000_000) as u32
    }

    #[inline(always)]
    const fn from_nanoseconds_up(ns: u64) -> u64 {
        ns.div_ceil(1 << 30)
    }
}

/// Asserts that a type has no padding: its size is the sum of its fields'.
macro_rules! sizes {
    ($($type:ty = [$($field:literal)+], align $align:literal;)*) => {
        $(const _: () = {
            assert!(size_of::<$type>() == 0 $(+ $field)+);
            assert!(align_of::<$type>() == $align);
        };)*
    };
}

sizes! {
    Tuple<V4> = [4 4 2 2], align 4;
    Tuple<V6> = [16 16 2 2], align 4;
    FrontendKey<V4> = [4 2 1 1], align 4;
    FrontendKey<V6> = [16 2 1 1], align 4;
    Frontend = [4 4 4 8 8], align 4;
    Backend<V4> = [4 2 2 4 4], align 4;
    Backend<V6> = [16 2 2 4 4], align 4;
    FlowKey<V4> = [12 1 1 2], align 4;
    FlowKey<V6> = [36 1 1 2], align 4;
    Flow<V4> = [12 4 4 4 4 4 4], align 4;
    Flow<V6> = [36 4 4 4 4 4 4], align 4;
    Traffic = [8 8], align 8;
    SourceRange<V4> = [4 4], align 4;
    SourceRange<V6> = [4 16], align 4;
    AffinityKey<V4> = [4 4], align 4;
    AffinityKey<V6> = [16 4], align 4;
    Affinity = [4 4 4], align 4;
    Range<V4> = [4 4], align 4;
    Range<V6> = [16 16], align 4;
    Settings<V4> = [4 4 4 8 8], align 4;
    Settings<V6> = [16 4 4 32 32], align 4;
    SlotPair = [8], align 4;
    Answers = [4 4], align 4;
    FragmentKey<V4> = [4 4 4 1 1 2], align 4;
    FragmentKey<V6> = [16 16 4 1 1 2], align 4;
    Fragment<V4> = [4 4 4 4], align 4;
    Fragment<V6> = [16 16 4 4], align 4;
}

const _: () = {
    assert!(core::mem::offset_of!(Frontend, cluster) == 12);
    assert!(core::mem::offset_of!(Frontend, local) == 20);
    assert!(core::mem::offset_of!(Backend<V6>, generation) == 20);
    assert!(core::mem::offset_of!(FlowKey<V6>, protocol) == 36);
    assert!(core::mem::offset_of!(Flow<V6>, seen) == 48);
};

/// Implements [`Bytes`], and aya's own marker where the agent needs it.
macro_rules! bytes {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: `#[repr(C)]` without padding (asserted above), of integers only.
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl Bytes for $type {}
            // SAFETY: as above.
            #[cfg(feature = "agent")]
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl aya::Pod for $type {}
        )*
    };
}

bytes! {
    V4, V6, Port, Tuple<V4>, Tuple<V6>, FrontendKey<V4>, FrontendKey<V6>, Frontend,
    Backend<V4>, Backend<V6>, FlowKey<V4>, FlowKey<V6>,
    SourceRange<V4>, SourceRange<V6>, AffinityKey<V4>, AffinityKey<V6>, Affinity, Settings<V4>, Settings<V6>, SlotPair,
    Traffic,
}

macro_rules! primitive_bytes {
    ($($type:ty),*) => {
        $(
            // SAFETY: integers, or arrays of what is made of integers.
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl Bytes for $type {}
        )*
    };
}

primitive_bytes!(
    u8, u16, u32, [u8; 2], [u16; 2], [u16; 6], [u32; 2], [u32; 3], [u32; 5], [u32; 7], [u32; 10],
    [u32; 12], [V4; 2], [V6; 2]
);

// Behind the macros that it uses.
mod socket;

pub use socket::{
    CGROUP_LEVELS, LEFT_OUT_PODS, SocketCookie, SocketKey, SocketRecord, Towards, socket_flags,
};
