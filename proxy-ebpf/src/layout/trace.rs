//! What programs tell whoever listens (`proxy-agent trace`).

use super::Tuple;

/// Bytes of `TRACE_EVENTS`: more than 8,000 events of IPv4, or 4,600 of IPv6.
pub const TRACE_BYTES: u32 = 512 * 1024;

/// In the place of a Service port's id, a backend's index or a reason that an event has not.
pub const UNKNOWN: u32 = u32::MAX;

/// The one element of `TRACE_LISTENER`: what somebody wants to be told, and until when.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct TraceListener {
    /// The last tick of the lease: a listener that was killed does not renew it.
    pub until: u32,
    /// Bits of [`trace_kinds`]; 0 where nobody listens.
    pub kinds: u32,
}

impl TraceListener {
    /// Whether any of these kinds are wanted.
    #[inline(always)]
    pub fn wants(&self, kinds: u32, now: impl FnOnce() -> u32) -> bool {
        self.kinds & kinds != 0 && self.until.wrapping_sub(now()).cast_signed() >= 0
    }
}

/// Bits of [`TraceListener::kinds`].
pub mod trace_kinds {
    /// Flows that are made.
    pub const NEW_FLOWS: u32 = 1;
    /// Packets that are dropped or answered, and calls that fail.
    pub const DROPS: u32 = 1 << 1;
}

/// What an event tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum TraceKind {
    /// A flow is made.
    NewFlow = 0,
    /// A packet is dropped.
    Drop = 1,
    /// A packet is answered by a reset or an ICMP error.
    Answer = 2,
    /// A process's call fails as if a reset had come.
    Refuse = 3,
    /// A process's call fails as if nobody had answered in time.
    TimeOut = 4,
}

impl TraceKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::NewFlow,
        Self::Drop,
        Self::Answer,
        Self::Refuse,
        Self::TimeOut,
    ];
}

/// An entry of `TRACE_EVENTS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct TraceEvent<A> {
    /// When, in nanoseconds since boot.
    pub time: u64,
    /// The packet's tuple; of a call at a socket the source is zero.
    pub tuple: Tuple<A>,
    /// What the tuple of a new flow becomes; else zeros.
    pub translated: Tuple<A>,
    /// The Service port's id, if it is known.
    pub service: u32,
    /// Index of the backend, if there is one.
    pub backend: u32,
    /// Index of the device at which the packet is; 0 at a socket.
    pub device: u32,
    /// Index of the counter that says why, if there is one.
    pub reason: u32,
    /// Of a new flow, bits of [`flow_flags`](super::flow_flags).
    pub flags: u32,
    /// A [`TraceKind`].
    pub kind: u8,
    /// The IP protocol's number; 0 where the packet does not show it.
    pub protocol: u8,
    /// Who sends: of [`Client`](crate::pipeline::Client) the number.
    pub client: u8,
    /// Zero.
    pub pad: u8,
}
