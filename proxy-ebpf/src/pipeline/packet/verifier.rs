//! Keeping the kernel's verifier from following the same code again and again.
//!
//! It goes through the code behind a fork once for each state of the program that differs
//! in what it knows: of a number that is one of three it follows three ways, to the end. What
//! it knows nothing of it follows once. None of these functions changes anything.

use core::hint::black_box;

/// The number, as one of which the verifier knows nothing. It must not know `any` either.
#[inline(always)]
pub(crate) fn veil(number: u32, any: u32) -> u32 {
    // Nothing, which neither the compiler nor the verifier sees.
    number | any.wrapping_sub(black_box(any))
}

/// An offset in a packet, of which the verifier knows nothing but that it is at most `limit`,
/// all of whose bits are ones; `any` is as above.
#[inline(always)]
pub fn hide_offset(offset: usize, any: usize, limit: usize) -> usize {
    // The compiler would put the limit elsewhere, where the verifier does not see it.
    black_box(offset | any.wrapping_sub(black_box(any))) & limit
}

/// The value, behind which the compiler goes on in one way, wherever it came from.
#[inline(always)]
pub(crate) fn join<T>(value: T) -> T {
    black_box(value)
}
