//! A word that is compared and exchanged.

/// A word that every CPU, and the agent, change by comparing and exchanging it.
#[cfg(not(target_arch = "bpf"))]
#[derive(Debug, Default)]
#[repr(transparent)]
pub(super) struct SharedU64(core::sync::atomic::AtomicU64);

#[cfg(not(target_arch = "bpf"))]
impl SharedU64 {
    /// Reads it.
    pub(super) fn load(&self) -> u64 {
        self.0.load(core::sync::atomic::Ordering::Acquire)
    }

    /// Makes `new` of it if it is `old`. What was written before is visible to whoever sees it.
    pub(super) fn compare_exchange(&self, old: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::{AcqRel, Acquire};
        self.0.compare_exchange(old, new, AcqRel, Acquire).is_ok()
    }
}

/// The number, which the compiler does not know; the kernel's verifier does.
#[cfg(not(target_arch = "bpf"))]
pub const fn opaque<const NUMBER: usize>() -> usize {
    NUMBER
}

#[cfg(target_arch = "bpf")]
pub(super) use in_kernel::SharedU64;
#[cfg(target_arch = "bpf")]
pub use in_kernel::opaque;

#[cfg(target_arch = "bpf")]
#[expect(unsafe_code, reason = "an instruction that the compiler does not use")]
mod in_kernel {
    use core::arch::asm;
    use core::cell::UnsafeCell;

    /// A word that every CPU, and the agent, change by comparing and exchanging it.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub(in super::super) struct SharedU64(UnsafeCell<u64>);

    // SAFETY: every change is one instruction.
    unsafe impl Sync for SharedU64 {}

    impl SharedU64 {
        /// Reads it.
        #[inline(always)]
        pub(in super::super) fn load(&self) -> u64 {
            // SAFETY: an aligned word.
            unsafe { self.0.get().read_volatile() }
        }

        /// Makes `new` of it if it is `old` (Linux 5.12). What was written before is visible
        /// to whoever sees it: the kernel orders this instruction fully
        /// (Documentation/bpf/standardization/instruction-set.rst).
        #[inline(always)]
        pub(in super::super) fn compare_exchange(&self, old: u64, new: u64) -> bool {
            let found: u64;
            // SAFETY: one instruction, on an aligned word.
            unsafe {
                asm!(
                    "r0 = cmpxchg_64({word} + 0, r0, {new})",
                    word = in(reg) self.0.get(),
                    new = in(reg) new,
                    inout("r0") old => found,
                    options(nostack),
                );
            }
            found == old
        }
    }

    /// The number, which the compiler does not know; the kernel's verifier does.
    #[inline(always)]
    pub fn opaque<const NUMBER: usize>() -> usize {
        let number;
        // SAFETY: one instruction, without effect on memory. (Without any, two lines of the
        // source would be at one instruction, which the kernel refuses.)
        unsafe {
            asm!("{0} = {1}", out(reg) number, const NUMBER, options(pure, nomem, nostack));
        }
        number
    }
}
