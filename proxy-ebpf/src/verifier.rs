//! Barriers that keep the verifier from exploring the same code many times.
//!
//! After a branch the verifier explores the rest of the program once per distinct register
//! state: a number known to be one of three costs three walks to the end. An unknown number
//! costs one. None of these functions changes its value.

use core::hint::black_box;

/// Returns `number`, whose bounds the verifier no longer knows. It must not know `any` either. Not by
/// an OR: of that it knows which bits are set.
#[inline(always)]
pub(crate) fn hide_bounds(number: u32, any: u32) -> u32 {
    // Zero, which neither the compiler nor the verifier can tell.
    number ^ any.wrapping_sub(black_box(any))
}

/// An offset in a packet, of which the verifier knows nothing but that it is at most `limit`,
/// all of whose bits are ones; `any` is as above.
#[inline(always)]
pub fn hide_offset(offset: usize, any: usize, limit: usize) -> usize {
    // The compiler would put the limit elsewhere, where the verifier does not see it.
    black_box(offset ^ any.wrapping_sub(black_box(any))) & limit
}

/// Returns `value`; the compiler does not duplicate the code after it per branch.
#[inline(always)]
pub fn barrier_var<T>(value: T) -> T {
    black_box(value)
}

/// All bits, if a number is zero; else none: for what would be a branch.
#[inline(always)]
pub fn all_ones_if_zero(number: u32) -> u32 {
    // Hidden, since the compiler would make a branch of it again.
    let number = barrier_var(number);
    ((number | number.wrapping_neg()) >> 31).wrapping_sub(1)
}

/// The bits of one number where the mask has them, and else of the other.
#[inline(always)]
pub const fn choose(mask: u32, one: u32, other: u32) -> u32 {
    other ^ (mask & (one ^ other))
}
