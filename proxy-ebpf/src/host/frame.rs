//! A packet in plain memory.

use crate::layout::Bytes;
use crate::pipeline::Packet;

/// A packet in plain memory, with complete checksums, of whose IPv6 extension headers so
/// many are walked through.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame<const MAX_EXTENSION_HEADERS: usize = 5>(pub Vec<u8>);

impl<const MAX_EXTENSION_HEADERS: usize> Packet for Frame<MAX_EXTENSION_HEADERS> {
    const MAX_EXTENSION_HEADERS: usize = MAX_EXTENSION_HEADERS;

    fn len(&self) -> usize {
        self.0.len()
    }

    /// In memory there is one device.
    fn device(&self) -> u32 {
        1
    }

    /// In memory none goes on by its link header.
    fn is_for_host(&self) -> bool {
        true
    }

    #[expect(unsafe_code, reason = "reads any value from checked bytes")]
    fn read<T: Bytes>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        let bytes = self.0.get(offset..end)?;
        // SAFETY: `bytes` has the size of `T`, and any bytes are a `T`.
        Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
    }

    #[expect(unsafe_code, reason = "writes any value over checked bytes")]
    fn write<T: Bytes>(&mut self, offset: usize, value: &T) -> Option<()> {
        let end = offset.checked_add(size_of::<T>())?;
        let bytes = self.0.get_mut(offset..end)?;
        // SAFETY: `bytes` has the size of `T`, which has no padding.
        unsafe { bytes.as_mut_ptr().cast::<T>().write_unaligned(*value) };
        Some(())
    }

    fn adjust_sctp_checksum(&mut self, offset: usize, change: u32) -> Option<()> {
        let old: u32 = self.read(offset)?;
        self.write(offset, &(old ^ change))
    }

    fn is_checksum_partial(&mut self, _: usize, _: u16) -> bool {
        false
    }

    #[expect(unsafe_code, reason = "reads the bytes of any value")]
    fn prepend<T: Bytes>(&mut self, network: usize, end: usize, headers: &T) -> Option<()> {
        if network > end || end > self.0.len() {
            return None;
        }
        self.0.truncate(end);
        let start = std::ptr::from_ref(headers).cast();
        // SAFETY: `headers` has no padding.
        let bytes = unsafe { std::slice::from_raw_parts(start, size_of::<T>()) };
        self.0.splice(network..network, bytes.iter().copied());
        Some(())
    }

    #[expect(unsafe_code, reason = "reads the bytes of any value")]
    fn encapsulate<T: Bytes>(&mut self, network: usize, outer: &T) -> Option<()> {
        if network > self.0.len() || network > 14 {
            return None;
        }
        let start = std::ptr::from_ref(outer).cast();
        // SAFETY: `outer` has no padding.
        let bytes = unsafe { std::slice::from_raw_parts(start, size_of::<T>()) };
        self.0.splice(network..network, bytes.iter().copied());
        Some(())
    }

    fn decapsulate(&mut self, network: usize, length: usize) -> Option<()> {
        if network + length > self.0.len() || network > 14 {
            return None;
        }
        self.0.drain(network..network + length);
        Some(())
    }
}
