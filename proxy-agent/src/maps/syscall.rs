//! bpf(2), for the commands that aya does not wrap.
#![expect(unsafe_code, reason = "a system call that libc does not wrap")]

use std::io;

/// Commands of `linux/bpf.h`.
#[derive(Clone, Copy, Debug)]
#[repr(i64)]
pub(super) enum Command {
    /// `BPF_MAP_UPDATE_ELEM`
    MapUpdate = 2,
    /// `BPF_OBJ_GET`
    ObjectGet = 7,
    /// `BPF_MAP_LOOKUP_BATCH` (Linux 5.6)
    MapLookupBatch = 24,
    /// `BPF_LINK_UPDATE` (Linux 5.7)
    LinkUpdate = 29,
    /// `BPF_LINK_DETACH` (Linux 5.9)
    LinkDetach = 34,
}

/// # Safety
///
/// `attributes` is the member of `union bpf_attr` for this command, and the pointers in
/// it are to what the command reads and writes there.
pub(super) unsafe fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            core::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}
