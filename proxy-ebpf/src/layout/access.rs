//! Who may use a frontend, and where a client was sent before.

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
    /// When that was, in [`ticks`](super::ticks).
    pub last_seen: u32,
}
