//! Endpoints, and the sets in which connections find them.

use super::Port;

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

/// Added to a backend's generation when TCP connections to its removed endpoint are to be
/// reset. Even, so that the backend stays removed, and larger than the number of times that an
/// index is reused in between.
pub const RESET_STEP: u32 = 1 << 24;

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// Runs on this node.
    pub const LOCAL: u16 = 1;
    /// Is in its Service port's cluster set. Kept for those with affinity only.
    pub const IN_CLUSTER_SET: u16 = 1 << 1;
    /// Is in its Service port's local set. Kept for those with affinity only.
    pub const IN_LOCAL_SET: u16 = 1 << 2;
    /// Its Service says what becomes of connections that are not answered, in the place of
    /// [`RETRY_UNANSWERED`](crate::layout::settings_flags::RETRY_UNANSWERED): they go on as they
    /// are, but for the next bits.
    pub const SAYS_UNANSWERED: u16 = 1 << 3;
    /// Together with [`SAYS_UNANSWERED`]: a SYN that is sent again goes to another endpoint.
    pub const RETRIED: u16 = 1 << 4;
    /// Together with [`RETRIED`]: new connections may avoid the endpoint. Asked by agents only.
    pub const AVOIDABLE: u16 = 1 << 5;
    /// New connections may avoid the endpoint now: its [`Liveness`](crate::layout::Liveness) says so,
    /// which is not looked at without this bit. Kept by the agent beside that, whatever it plans.
    pub const SUSPECT: u16 = 1 << 6;
}
