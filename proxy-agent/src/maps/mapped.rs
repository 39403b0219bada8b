//! An array map whose elements are mapped into this process: a write is a store,
//! not a system call.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::marker::PhantomData;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use aya::Pod;
use aya::maps::MapData;

use super::MapError;

/// An array map with `BPF_F_MMAPABLE` (Linux 5.5), mapped for writing.
pub(super) struct MappedArray<T> {
    name: &'static str,
    start: NonNull<u8>,
    bytes: usize,
    elements: u32,
    /// Keeps the map alive, and owns its descriptor.
    _map: MapData,
    _element: PhantomData<T>,
}

// SAFETY: the memory belongs to the map, not to a thread.
unsafe impl<T: Send> Send for MappedArray<T> {}

impl<T: Pod> MappedArray<T> {
    /// The distance of two elements: the kernel rounds up to 8 bytes
    /// (`array_map_alloc`, kernel/bpf/arraymap.c).
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps an array of `elements` elements.
    pub(super) fn new(name: &'static str, map: MapData, elements: u32) -> Result<Self, MapError> {
        // SAFETY: sysconf reads a constant.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .map_err(|_| MapError::last_os_error("sysconf(_SC_PAGESIZE)"))?;
        let bytes = (elements as usize * Self::STRIDE).next_multiple_of(page);
        // SAFETY: a new mapping of a map that this object keeps open.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(MapError::last_os_error("mmap of an array map"));
        }
        let start = NonNull::new(start.cast()).ok_or(MapError::Missing(name))?;
        Ok(Self {
            name,
            start,
            bytes,
            elements,
            _map: map,
            _element: PhantomData,
        })
    }

    /// Stores one element. Stores of earlier calls are visible to whoever sees
    /// this one.
    pub(super) fn set(&mut self, index: u32, value: T) -> Result<(), MapError> {
        let element = self.element(index)?;
        fence(Ordering::Release);
        // SAFETY: within the mapping, aligned to 8 bytes, and `T` is plain data.
        unsafe { element.write_volatile(value) };
        Ok(())
    }

    /// Reads one element.
    pub(super) fn get(&self, index: u32) -> Result<T, MapError> {
        // SAFETY: as in `set`.
        Ok(unsafe { self.element(index)?.read_volatile() })
    }

    fn element(&self, index: u32) -> Result<*mut T, MapError> {
        if index >= self.elements {
            return Err(MapError::Range {
                map: self.name,
                index,
                size: self.elements,
            });
        }
        // SAFETY: the element lies within the mapping.
        Ok(unsafe { self.start.as_ptr().add(index as usize * Self::STRIDE) }.cast())
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`, used by nobody any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
