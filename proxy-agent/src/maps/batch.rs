//! Reading many elements of a map with one system call.
#![expect(unsafe_code, reason = "a command of bpf(2) that aya does not wrap")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

use super::syscall::{Command, bpf};

/// Elements that are asked for at first; a bucket of a hash table with more asks for more.
const BATCH: usize = 1024;

/// The member of `union bpf_attr` for commands on batches.
#[derive(Default)]
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Hands every element of a map to `take`. What is written meanwhile is seen, or is not;
/// nothing is seen twice that stays.
///
/// # Errors
///
/// The kernel's, of bpf(2).
pub(super) fn for_each<K: Pod, V: Pod>(
    map: &MapData,
    mut take: impl FnMut(K, V),
) -> io::Result<()> {
    for_each_raw(map, [size_of::<K>(), size_of::<V>()], |key, value| {
        // SAFETY: both have the size of what they are read as, which is plain data.
        unsafe {
            take(
                key.as_ptr().cast::<K>().read_unaligned(),
                value.as_ptr().cast::<V>().read_unaligned(),
            );
        }
    })
}

/// The same with elements as bytes, of which `sizes` are those of a key and of a value.
pub(super) fn for_each_raw(
    map: &MapData,
    [key_size, value_size]: [usize; 2],
    mut take: impl FnMut(&[u8], &[u8]),
) -> io::Result<()> {
    let mut room = BATCH;
    let mut keys = vec![0; room * key_size];
    let mut values = vec![0; room * value_size];
    // The kernel's place in the map: as large as a key, or 32 bits.
    let mut place = vec![0_u8; key_size.max(size_of::<u32>())];
    let mut in_batch = 0;
    loop {
        let out_batch = place.as_mut_ptr() as u64;
        let mut attributes = Attributes {
            in_batch,
            out_batch,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room).unwrap_or(u32::MAX),
            map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            ..Attributes::default()
        };
        // SAFETY: the pointers are to `room` keys and values, and to a place as large as
        // the kernel needs.
        let result = unsafe { bpf(Command::MapLookupBatch, &mut attributes) };
        let errno = result.as_ref().err().and_then(io::Error::raw_os_error);
        match (&result, errno) {
            (Err(_), Some(libc::ENOSPC)) => {
                room *= 2;
                keys.resize(room * key_size, 0);
                values.resize(room * value_size, 0);
                continue;
            }
            (Err(_), errno) if errno != Some(libc::ENOENT) => return result.map(drop),
            _ => {}
        }
        let keys = keys.chunks_exact(key_size);
        let elements = keys.zip(values.chunks_exact(value_size));
        let count = attributes.count as usize;
        elements
            .take(count)
            .for_each(|(key, value)| take(key, value));
        if result.is_err() {
            // There are no more.
            return Ok(());
        }
        in_batch = out_batch;
    }
}
