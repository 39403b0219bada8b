//! What is known of a map besides the types of its elements.

/// One of the kernel's maps: what it is made with, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapSpec {
    /// Its name in the kernel, and that of its pin.
    pub name: &'static str,
    /// Its kind.
    pub kind: MapKind,
    /// How many elements it has.
    pub size: MapSize,
    /// For how long it has them.
    pub lifetime: Lifetime,
}

/// A kind of map (`enum bpf_map_type`), with what it is made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// A hash table that takes memory for what is there.
    Hash,
    /// A hash table that evicts what was not used for long.
    LruHash,
    /// A trie of prefixes that takes memory for what is there.
    Trie,
    /// An array.
    Array,
    /// An array that is mapped into the agent (Linux 5.5).
    MappedArray,
    /// An array for each CPU.
    PerCpuArray,
    /// An array of programs to call.
    ProgramArray,
    /// A ring buffer, mapped into who reads it (Linux 5.8).
    RingBuffer,
}

impl MapKind {
    /// The flags with which a map of this kind is made (`linux/bpf.h`).
    pub const fn flags(self) -> u32 {
        const BPF_F_NO_PREALLOC: u32 = 1;
        const BPF_F_MMAPABLE: u32 = 1 << 10;
        match self {
            Self::Hash | Self::Trie => BPF_F_NO_PREALLOC,
            Self::MappedArray => BPF_F_MMAPABLE,
            Self::LruHash
            | Self::Array
            | Self::PerCpuArray
            | Self::ProgramArray
            | Self::RingBuffer => 0,
        }
    }
}

/// How many elements a map has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapSize {
    /// Always as many.
    Fixed(u32),
    /// So many bytes, for elements of any size.
    Bytes(u32),
    /// One for each variant of an enum, of which there are as many.
    OneEach(u32),
    /// As many as a setting says.
    Of(SizeSetting),
    /// Twice as many.
    Twice(SizeSetting),
    /// Half as many, rounded up.
    Half(SizeSetting),
    /// As many buckets as have room for twice as many records: few of them overflow.
    Buckets(SizeSetting),
}

impl MapSize {
    /// Buckets for so many records.
    #[expect(clippy::cast_possible_truncation, reason = "less than `records`")]
    pub const fn buckets(records: u32) -> u32 {
        (records as u64 * 2).div_ceil(super::WAYS as u64) as u32
    }
}

/// A setting of the agent that gives sizes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SizeSetting {
    /// Frontends of one IP version.
    Frontends,
    /// Backends of one IP version.
    Backends,
    /// Slots.
    Slots,
    /// Flow records of one IP version: two of each flow.
    Flows,
    /// Addresses of this node, of one IP version.
    NodeAddresses,
}

impl MapSize {
    /// The size in the object; where a setting gives it, the agent sets it before it loads
    /// the object.
    pub const fn in_object(self) -> u32 {
        match self {
            Self::Fixed(size) | Self::Bytes(size) | Self::OneEach(size) => size,
            Self::Of(_) | Self::Twice(_) | Self::Half(_) | Self::Buckets(_) => 1,
        }
    }
}

/// For how long a map has its content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lifetime {
    /// For the next agent as well: it is pinned. Where the next agent has other sizes, the
    /// content is copied.
    Carried,
    /// The same, of a map that agents of this layout's version have not always had.
    CarriedIfThere,
    /// The same, of a map that programs at devices go on filling meanwhile: it is copied
    /// again when the next agent's have taken over.
    FilledByPackets,
    /// The same, of a map that programs at sockets fill.
    FilledBySockets,
    /// It is pinned, and where the next agent has other sizes, it begins empty.
    Anew,
    /// Until its agent ends.
    Passing,
}

impl Lifetime {
    /// Whether the map is pinned.
    pub const fn is_pinned(self) -> bool {
        !matches!(self, Self::Passing)
    }

    /// Whether the content is copied where the next agent has other sizes.
    pub const fn is_carried(self) -> bool {
        !matches!(self, Self::Anew | Self::Passing)
    }

    /// Whether the programs fill the map, and evict from it.
    pub const fn is_filled_by_programs(self) -> bool {
        matches!(self, Self::FilledByPackets | Self::FilledBySockets)
    }
}
