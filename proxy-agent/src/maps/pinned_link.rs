//! Detaching what a pinned link holds, or putting another program in its place. To remove
//! the pin, or to rename another one over it, detaches as well, but some time later: the
//! kernel frees a pin's inode after a grace period.
#![expect(unsafe_code, reason = "commands of bpf(2) that aya does not wrap")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
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

/// The member of `union bpf_attr` for `BPF_LINK_UPDATE`.
#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Detaches the link that is pinned at `path`; one that holds no more is no error.
pub(super) fn detach(path: &Path) -> io::Result<()> {
    let link = open(path)?;
    // SAFETY: the argument is the member for this command, a descriptor.
    match unsafe { bpf(Command::LinkDetach, &mut link.as_raw_fd()) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        result => result.map(drop),
    }
}

/// Puts a program in the place of that of the link that is pinned at `path`, in one step.
///
/// # Errors
///
/// There is no link, or it holds no more.
pub(crate) fn replace(path: &Path, program: BorrowedFd<'_>) -> io::Result<()> {
    let link = open(path)?;
    let mut update = Update {
        link: link.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_program: 0,
    };
    // SAFETY: the argument is the member for this command, with two descriptors.
    unsafe { bpf(Command::LinkUpdate, &mut update) }.map(drop)
}

/// Opens the link that is pinned at `path`.
fn open(path: &Path) -> io::Result<OwnedFd> {
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
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
