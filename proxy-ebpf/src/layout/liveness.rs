//! Whether endpoints answer.

/// Element of `BACKEND_LIVENESS_*`, by backend index: whether the endpoint answers new
/// connections. Its state holds while the backend is marked as
/// [`SUSPECT`](super::backend_flags::SUSPECT). Programs write it in place without order, and the
/// agent its state: what one of them overwrites comes again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Liveness {
    /// The generation of the backend that this is about.
    pub generation: u32,
    /// Connections that were not answered since the last one that was.
    pub unanswered: u32,
    /// When the last of these was found, in [`ticks`](super::ticks).
    pub unanswered_at: u32,
    /// When one was answered last, in [`ticks`](super::ticks); 0 for never.
    pub answered_at: u32,
    /// One of [`liveness_state`].
    pub state: u32,
    /// Where connections go in its place: backend indices plus 1, or 0; two of the cluster set, and
    /// two of the local set.
    pub instead: [u32; 4],
    /// Zero.
    pub pad: u32,
}

/// Values of [`Liveness::state`].
pub mod liveness_state {
    /// New connections may go there.
    pub const USED: u32 = 0;
    /// New connections go to others, of [`Liveness::instead`](super::Liveness::instead).
    pub const AVOIDED: u32 = 1;
    /// The same, but for the next one.
    pub const TRIAL: u32 = 2;
}
