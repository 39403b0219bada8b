//! Decisions taken from a stream of bytes.

/// Decisions taken from a stream of bytes. Where it has ended every decision is the
/// first one, so that a shorter stream means a simpler outcome.
#[derive(Debug)]
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// Decisions taken from these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether there is nothing left to decide by.
    pub fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else {
            return 0;
        };
        self.rest = rest;
        *first
    }

    /// Two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number less than `limit`, which is at most 65,536.
    pub fn below(&mut self, limit: usize) -> usize {
        let number = if limit <= 256 {
            usize::from(self.byte())
        } else {
            usize::from(self.short())
        };
        number % limit.max(1)
    }

    /// That many bytes as they are, or all that is left.
    pub fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// One of some.
    pub fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Seldom true: one time in `times`.
    pub fn seldom(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// Bytes without a pattern, for the price of four.
    pub fn filling(&mut self, length: usize) -> Vec<u8> {
        let seed = u64::from(self.short()) << 16 | u64::from(self.short());
        if seed == 0 {
            return vec![0; length];
        }
        noise(seed, length)
    }
}

/// Bytes without a pattern; the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    // splitmix64: any seed is as good as another.
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(next());
    }
    bytes.truncate(length);
    bytes
}
