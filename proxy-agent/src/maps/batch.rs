//! Reading many elements of a hash map with one system call.
#![expect(unsafe_code, reason = "a command of bpf(2) that aya does not wrap")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Pod;
use aya::maps::MapData;

/// `BPF_MAP_LOOKUP_BATCH` of `linux/bpf.h` (Linux 5.6).
const LOOKUP_BATCH: libc::c_long = 24;

/// Elements that are asked for at first; a bucket of the table with more asks for more.
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

/// Hands every element of a hash map to `take`. What is written meanwhile is seen, or is
/// not; nothing is seen twice that stays.
///
/// # Errors
///
/// The kernel's, of bpf(2).
pub(super) fn for_each<K, V>(map: &MapData, mut take: impl FnMut(K, V)) -> io::Result<()>
where
    K: Pod + Default,
    V: Pod + Default,
{
    let mut keys = vec![K::default(); BATCH];
    let mut values = vec![V::default(); BATCH];
    // The kernel's place in the table; as large as a key, or 32 bits.
    let mut place = vec![0_u8; size_of::<K>().max(size_of::<u32>())];
    let mut is_first = true;
    loop {
        let (count, result) = lookup(map, &mut place, is_first, &mut keys, &mut values);
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                keys.resize(keys.len() * 2, K::default());
                values.resize(values.len() * 2, V::default());
                continue;
            }
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
        keys.iter()
            .zip(&values)
            .take(count)
            .for_each(|(key, value)| take(*key, *value));
        if result.is_err() {
            // There are no more.
            return Ok(());
        }
        is_first = false;
    }
}

fn lookup<K: Pod, V: Pod>(
    map: &MapData,
    place: &mut [u8],
    is_first: bool,
    keys: &mut [K],
    values: &mut [V],
) -> (usize, io::Result<()>) {
    let place = place.as_mut_ptr() as u64;
    let mut attributes = Attributes {
        in_batch: if is_first { 0 } else { place },
        out_batch: place,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        map: map.fd().as_fd().as_raw_fd().cast_unsigned(),
        ..Attributes::default()
    };
    // SAFETY: the pointers are to `count` keys and values, and to a place as large as the
    // kernel needs; it writes plain data there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LOOKUP_BATCH,
            core::ptr::from_mut(&mut attributes),
            size_of::<Attributes>(),
        )
    };
    let result = if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    };
    (attributes.count as usize, result)
}
