//! A hash of words, the same on every machine.

/// `MurmurHash3` (Appleby, 2011) of 32-bit words, under way. The same on every machine: by it
/// nodes agree about endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u32);

impl Hash {
    /// Of no words yet.
    #[inline(always)]
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// Takes in a word.
    #[inline(always)]
    #[must_use]
    pub fn word(self, word: u32) -> Self {
        let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
        let hash = self.0 ^ word.wrapping_mul(0x1b87_3593);
        let hash = hash.rotate_left(13);
        Self(hash.wrapping_mul(5).wrapping_add(0xe654_6b64))
    }

    /// The number.
    #[inline(always)]
    pub fn finish(self) -> u32 {
        let mut hash = self.0 ^ self.0 >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(0xc2b2_ae35);
        hash ^ hash >> 16
    }
}
