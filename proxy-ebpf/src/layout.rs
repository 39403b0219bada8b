//! Keys and values of the kernel's maps: the contract between the agent and the
//! programs.
//!
//! Here are also the tables of maps ([`maps`]) and of stages ([`Stage`]), from which both
//! sides have theirs.
//!
//! Every type is `#[repr(C)]`, has no padding that is not a named, zeroed field,
//! and has its size asserted below. Addresses and ports are in network byte
//! order as they are in a packet, everything else is in the machine's order.
//!
//! [`VERSION`] names this layout; it changes with any change here or in the modules below
//! that an older reader would misread.

#[macro_use]
mod promises;

mod access;
mod address;
mod backend;
mod bucket;
mod counter;
mod device;
mod filter;
mod flow;
mod fragment;
mod frontend;
mod liveness;
mod map;
pub mod maps;
mod name;
mod retry;
mod settings;
mod socket;
mod stage;
mod trace;

pub use access::{Affinity, AffinityKey, Allowed, SourceRange};
pub use address::{Address, Bytes, Port, V4, V6, protocol};
pub use backend::{Backend, RESET_STEP, SlotPair, backend_flags};
pub use bucket::{Bucket, WAYS};
pub use counter::{COUNTERS, Counter, Traffic};
pub use device::{EDGE_DEVICES, EdgeDevice, LinkAddress, XdpDeviceFlags, xdp_device_flags};
pub use filter::{FILTER_WORDS, FilterBits};
pub use flow::{
    Edge, Flow, FlowKey, FlowSeed, KeyParts, NAT_PORTS, NatPort, NewFlow, RelaxedU32, Timeouts,
    Tuple, WayState, flow_flags, new_flow_notes,
};
pub use fragment::{FRAGMENTS, Fragment, FragmentKey};
pub use frontend::{
    ClusterIp, DEVICE_ADDRESSES, Frontend, FrontendKey, NodeAddress, Span, frontend_flags,
};
pub use liveness::{Liveness, liveness_state};
pub use map::{Lifetime, MapKind, MapSize, MapSpec, SizeSetting};
pub use name::ServiceName;
pub use retry::{RETRIES, Retry};
pub use settings::{CurrentSettings, Range, SERVICE_CIDRS, Settings, settings_flags};
pub use socket::{
    CGROUP_LEVELS, LEFT_OUT_PODS, NatDirection, SocketCookie, SocketKey, SocketRecord,
};
pub use stage::{ANSWERS, Answers, STAGES, Stage};
pub use trace::{TRACE_BYTES, TraceEvent, TraceKind, TraceListener, UNKNOWN, trace_kinds};

/// The version of this layout; maps are pinned under it.
pub const VERSION: u32 = 6;

/// Time as the records have it: units of 2^30 ns, about 1.07 s, since boot. A
/// shift in the kernel, where a division would be a multiplication and a shift.
pub mod ticks {
    /// A tick has two to the power of this many nanoseconds.
    pub const SHIFT: u32 = 30;

    /// Ticks of a time in nanoseconds.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "136 years of uptime")]
    pub const fn from_nanoseconds(ns: u64) -> u32 {
        (ns >> SHIFT) as u32
    }

    /// Ticks in `seconds`, rounded up.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "smaller than its argument")]
    pub const fn from_seconds(seconds: u32) -> u32 {
        from_nanoseconds_up(seconds as u64 * 1_000_000_000) as u32
    }

    #[inline(always)]
    const fn from_nanoseconds_up(ns: u64) -> u64 {
        ns.div_ceil(1 << SHIFT)
    }
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
    Flow<V4> = [16 12 4 4 4 4 4 8 4 4], align 4;
    Flow<V6> = [40 36 4 4 4 4 4 8 4 4], align 4;
    NewFlow<V4> = [12 4 4 4 4 4 4 4 4 4], align 4;
    NewFlow<V6> = [36 4 4 4 4 4 4 4 4 4], align 4;
    WayState = [4 4], align 4;
    Bucket<V4> = [8 56 448], align 8;
    Bucket<V6> = [8 56 784], align 8;
    Timeouts = [4 4 4 4], align 4;
    Traffic = [8 8], align 8;
    Liveness = [4 4 4 4 4 16 4], align 4;
    SourceRange<V4> = [4 4], align 4;
    SourceRange<V6> = [4 16], align 4;
    AffinityKey<V4> = [4 4], align 4;
    AffinityKey<V6> = [16 4], align 4;
    Affinity = [4 4 4], align 4;
    Range<V4> = [4 4], align 4;
    Range<V6> = [16 16], align 4;
    Settings<V4> = [4 4 4 8 8 16], align 4;
    Settings<V6> = [16 4 4 32 32 16], align 4;
    CurrentSettings<V4> = [4 88], align 4;
    CurrentSettings<V6> = [4 208], align 4;
    SlotPair = [8], align 4;
    EdgeDevice = [4 12], align 4;
    ServiceName = [1 191], align 1;
    Answers = [4 4], align 4;
    TraceListener = [4 4], align 4;
    TraceEvent<V4> = [8 12 12 4 4 4 4 4 1 1 1 1], align 8;
    TraceEvent<V6> = [8 36 36 4 4 4 4 4 1 1 1 1], align 8;
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
    // A record of IPv4 is a cache line.
    assert!(core::mem::offset_of!(Bucket<V4>, flows) == 64);
};

bytes! {
    V4, V6, Port, Tuple<V4>, Tuple<V6>, FrontendKey<V4>, FrontendKey<V6>, Frontend,
    Backend<V4>, Backend<V6>, FlowKey<V4>, FlowKey<V6>,
    SourceRange<V4>, SourceRange<V6>, AffinityKey<V4>, AffinityKey<V6>, Affinity, Settings<V4>, Settings<V6>,
    CurrentSettings<V4>, CurrentSettings<V6>, SlotPair,
    Traffic, Liveness, EdgeDevice, LinkAddress, ServiceName, TraceListener,
    TraceEvent<V4>, TraceEvent<V6>,
}

primitive_bytes!(
    u8, u16, u32, [u8; 2], [u16; 2], [u16; 6], [u32; 2], [u32; 3], [u32; 5], [u32; 7], [u32; 10],
    [u32; 12], [V4; 2], [V6; 2]
);
