//! Promises about the layout of types, asserted or made for all of a list.

/// Asserts that a type has no padding: its size is the sum of its fields'.
macro_rules! sizes {
    ($($type:ty = [$($field:literal)+], align $align:literal;)*) => {
        $(const _: () = {
            assert!(size_of::<$type>() == 0 $(+ $field)+);
            assert!(align_of::<$type>() == $align);
        };)*
    };
}

/// Implements [`Bytes`](super::Bytes), and aya's own marker where the agent needs it.
macro_rules! bytes {
    ($($type:ty),* $(,)?) => {
        $(
            // SAFETY: `#[repr(C)]` without padding (asserted above), of integers only.
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl Bytes for $type {}
            // SAFETY: as above.
            #[cfg(feature = "agent")]
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl aya::Pod for $type {}
        )*
    };
}

/// Implements [`Bytes`](super::Bytes) for what has no padding by itself.
macro_rules! primitive_bytes {
    ($($type:ty),*) => {
        $(
            // SAFETY: integers, or arrays of what is made of integers.
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl Bytes for $type {}
        )*
    };
}
