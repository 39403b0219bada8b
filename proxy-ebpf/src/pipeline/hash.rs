//! Spreading tuples: a number that follows from words.

/// `MurmurHash3` (Appleby, 2011) of 32-bit words. The same on every machine: by it nodes
/// agree about endpoints.
#[inline(always)]
pub fn hash(seed: u32, words: impl IntoIterator<Item = u32>) -> u32 {
    let mut hash = seed;
    for word in words {
        hash = stir(hash, word);
    }
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[inline(always)]
fn stir(hash: u32, word: u32) -> u32 {
    let word = word.wrapping_mul(0xcc9e_2d51).rotate_left(15);
    let hash = hash ^ word.wrapping_mul(0x1b87_3593);
    hash.rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64)
}
