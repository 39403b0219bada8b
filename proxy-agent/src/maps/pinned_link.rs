//! Detaching what a pinned link holds. To remove the pin does that as well, but some time
//! later: the kernel frees a pin's inode after a grace period.
#![expect(unsafe_code, reason = "commands of bpf(2) that aya does not wrap")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::syscall::{Command, bpf};

/// The member of `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
struct Get {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Detaches the link that is pinned at `path`; one that holds no more is no error.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut get = Get {
        path: name.as_ptr() as u64,
        descriptor: 0,
        flags: 0,
    };
    // SAFETY: the argument holds a path that ends with zero.
    let descriptor = unsafe { bpf(Command::ObjectGet, &mut get) }?;
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for us.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: the argument is the member for this command, a descriptor.
    match unsafe { bpf(Command::LinkDetach, &mut link.as_raw_fd()) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result.map(drop),
    }
}
