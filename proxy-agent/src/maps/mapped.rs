//! An array map whose elements are mapped into this process: a write is a store,
//! not a system call.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use aya::Pod;
use aya::maps::MapData;
use proxy_ebpf::layout::SlotPair;

use super::MapError;

/// An array map with `BPF_F_MMAPABLE` (Linux 5.5), of which the part that was used so
/// far is mapped for writing. What is mapped counts as this process's memory, used or
/// not, since the kernel maps all pages at once (`remap_vmalloc_range`).
pub(super) struct MappedArray<T> {
    name: &'static str,
    map: MapData,
    elements: u32,
    mapping: Mapping,
    _element: PhantomData<T>,
}

impl<T: Pod> MappedArray<T> {
    /// The distance of two elements: the kernel rounds up to 8 bytes
    /// (`array_map_alloc`, kernel/bpf/arraymap.c).
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// Maps the beginning of an array.
    pub(super) fn new(name: &'static str, map: MapData) -> Result<Self, MapError> {
        let info = map.info();
        let info = info.map_err(|source| MapError::Write { map: name, source })?;
        let elements = info.max_entries();
        let mut array = Self {
            name,
            map,
            elements,
            mapping: Mapping::none(),
            _element: PhantomData,
        };
        array.element(0)?;
        Ok(array)
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
    pub(super) fn get(&mut self, index: u32) -> Result<T, MapError> {
        // SAFETY: as in `set`.
        Ok(unsafe { self.element(index)?.read_volatile() })
    }

    /// Copies the first `count` elements out, by a mapping that is gone afterwards.
    pub(super) fn copy(&self, count: u32) -> Result<Vec<T>, MapError> {
        let count = count.min(self.elements) as usize;
        if count == 0 {
            // mmap(2) refuses an empty range.
            return Ok(Vec::new());
        }
        let mapping = Mapping::new(&self.map, count * Self::STRIDE)?;
        let start = mapping.start.as_ptr();
        if Self::STRIDE == size_of::<T>() {
            let mut copy = Vec::with_capacity(count);
            // SAFETY: within the mapping, aligned to 8 bytes; `T` is plain data, of which there is
            // room for `count`. What programs write meanwhile is seen or not, word by word, as by
            // reading one by one. At once, since a large array has a million of them.
            unsafe {
                start
                    .cast::<T>()
                    .copy_to_nonoverlapping(copy.as_mut_ptr(), count);
                copy.set_len(count);
            }
            return Ok(copy);
        }
        let element = |at: usize| {
            // SAFETY: within the mapping, aligned to 8 bytes, and `T` is plain data.
            unsafe { start.add(at * Self::STRIDE).cast::<T>().read_volatile() }
        };
        Ok((0..count).map(element).collect())
    }

    /// How many elements there are.
    pub(super) fn len(&self) -> u32 {
        self.elements
    }

    /// Where an element is, which is mapped now if it was not.
    fn element(&mut self, index: u32) -> Result<*mut T, MapError> {
        if index >= self.elements {
            return Err(MapError::Range {
                map: self.name,
                index,
                size: self.elements,
            });
        }
        let offset = index as usize * Self::STRIDE;
        let end = offset + Self::STRIDE;
        if end > self.mapping.bytes {
            let all = self.elements as usize * Self::STRIDE;
            // Twice as much each time, so that growing costs little in the long run.
            let wanted = end.max(2 * self.mapping.bytes).max(MIN_MAPPING);
            self.mapping = Mapping::new(&self.map, wanted.min(all))?;
        }
        // SAFETY: the element lies within the mapping.
        Ok(unsafe { self.mapping.start.as_ptr().add(offset) }.cast())
    }
}

impl MappedArray<SlotPair> {
    /// Copies the first `count` slots out, and perhaps one more: two are in an element.
    pub(super) fn halves(&self, count: u32) -> Result<Vec<u32>, MapError> {
        let pairs = self.copy(count.div_ceil(2))?;
        Ok(pairs.iter().flat_map(|pair| pair.0).collect())
    }
}

impl MappedArray<u64> {
    /// Sets bits of an element, whatever programs do to others of its bits; those that were not
    /// set.
    pub(super) fn set_bits(&mut self, index: u32, bits: u64) -> Result<u64, MapError> {
        Ok(bits & !self.atomic(index)?.fetch_or(bits, Ordering::AcqRel))
    }

    /// Clears bits of an element; those that were set.
    pub(super) fn clear_bits(&mut self, index: u32, bits: u64) -> Result<u64, MapError> {
        Ok(bits & self.atomic(index)?.fetch_and(!bits, Ordering::AcqRel))
    }

    fn atomic(&mut self, index: u32) -> Result<&AtomicU64, MapError> {
        let element = self.element(index)?;
        // SAFETY: within the mapping, for as long as `self` is borrowed, and aligned to 8 bytes.
        Ok(unsafe { AtomicU64::from_ptr(element) })
    }
}

/// Where a mapping starts to grow, in bytes.
const MIN_MAPPING: usize = 64 * 1024;

/// A mapped part of a map; unmapped on drop.
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the map, not to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn none() -> Self {
        Self {
            start: NonNull::dangling(),
            bytes: 0,
        }
    }

    /// Maps the first `bytes` bytes, up to the end of the last page of them.
    fn new(map: &MapData, bytes: usize) -> Result<Self, MapError> {
        Ok(Self::of_range(map, 0..bytes)?.0)
    }

    /// Maps the pages of these bytes; where the first of these is in the mapping.
    pub(super) fn of_range(map: &MapData, range: Range<usize>) -> Result<(Self, usize), MapError> {
        let page = page_size()?;
        let first = range.start - range.start % page;
        let bytes = (range.end - first).next_multiple_of(page);
        let offset = libc::off_t::try_from(first)
            .map_err(|_| MapError::last_os_error("the offset of a mapping"))?;
        // SAFETY: a new mapping of an open map; nothing else is there.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(MapError::last_os_error("mmap of an array map"));
        }
        let start = NonNull::new(start.cast());
        let start = start.ok_or_else(|| MapError::last_os_error("mmap of an array map"))?;
        Ok((Self { start, bytes }, range.start - first))
    }

    /// Its first byte.
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

fn page_size() -> Result<usize, MapError> {
    // SAFETY: sysconf reads a constant.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
        .map_err(|_| MapError::last_os_error("sysconf(_SC_PAGESIZE)"))
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: the mapping made in `new`, used by nobody any more.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
        }
    }
}
