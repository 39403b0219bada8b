//! Access to a packet's bytes: in a socket buffer or XDP frame, or in plain memory.

use super::checksum::{Delta, TransportChecksum, TupleDelta};
use crate::layout::Bytes;

/// A pseudo header of an IP version, which the checksums of transport headers cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PseudoHeader {
    /// Its addresses are in the IP header's checksum too, which changes with them.
    Ipv4,
    /// IPv6 has no header checksum that changes with the addresses, so that a sum over the whole
    /// packet stays as it is.
    Ipv6,
}

/// Access to a packet. Offsets count from the first byte that the hook sees.
///
/// Every access is checked; a failed write may leave earlier writes in place, so
/// the caller drops such a packet.
pub trait Packet {
    /// How many IPv6 extension headers are walked through. RFC 8200 lets each of those
    /// that are known here occur once, destination options twice; a packet with more is
    /// not worth a longer walk.
    const MAX_EXTENSION_HEADERS: usize = 5;

    /// Number of bytes.
    fn len(&self) -> usize;

    /// Index of the device at which it is.
    fn device(&self) -> u32;

    /// Whether its link header, if it has one, is addressed to the device at which it is, so that it
    /// goes up to this host's stack.
    fn is_for_host(&self) -> bool;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies a value out, or `None` where the packet is too short.
    fn read<T: Bytes>(&self, offset: usize) -> Option<T>;

    /// Overwrites bytes, without regard to any checksum.
    fn write<T: Bytes>(&mut self, offset: usize, value: &T) -> Option<()>;

    /// Overwrites bytes of a header that was read, without regard to any checksum. Cheaper than
    /// [`Self::write`], but only for what lies in the packet's first buffer.
    #[inline(always)]
    fn write_header<T: Bytes>(&mut self, offset: usize, value: &T) -> Option<()> {
        self.update(offset, |_| *value)
    }

    /// Changes bytes of a header that was read, which lie in the packet's first buffer, without regard
    /// to any checksum.
    #[inline(always)]
    fn update<T: Bytes>(&mut self, offset: usize, change: impl FnOnce(T) -> T) -> Option<()> {
        let old = self.read(offset)?;
        self.write(offset, &change(old))
    }

    /// Returns `offset`, of which a verifier forgets how it was found: it would tell apart every way
    /// to an offset by which it has a program write.
    #[inline(always)]
    fn forget_origin(&mut self, offset: usize) -> usize {
        offset
    }

    /// Adjusts the IPv4 header checksum at `offset`.
    #[inline(always)]
    fn adjust_ip_checksum(&mut self, offset: usize, delta: Delta) -> Option<()> {
        self.update(offset, |sum| delta.apply(sum))
    }

    /// Adjusts the checksum of TCP or UDP for another tuple; by itself, a complete one.
    #[inline(always)]
    fn adjust_transport_checksum(
        &mut self,
        checksum: TransportChecksum,
        delta: TupleDelta,
        _: PseudoHeader,
    ) -> Option<()> {
        self.update(checksum.offset, |sum| checksum.after(delta.whole(), sum))
    }

    /// Adjusts the checksum at `offset` of a TCP, ICMP or `ICMPv6` header for a change of what lies
    /// between the header's begin and the packet's end.
    #[inline(always)]
    fn adjust_header_checksum(&mut self, offset: usize, delta: Delta) -> Option<()> {
        self.update(offset, |sum| delta.apply(sum))
    }

    /// Adds `change` to the SCTP checksum at `offset`: a CRC, in which that means to flip
    /// bits. One that is yet to be completed stays: it is 0, and completed as if it were.
    fn adjust_sctp_checksum(&mut self, offset: usize, change: u32) -> Option<()>;

    /// Adjusts the sum over the whole packet that hardware may have found, for a change
    /// that no checksum in the packet makes up for.
    fn adjust_checksum_complete(&mut self, _: Delta) {}

    /// Whether hardware is yet to complete the transport checksum at `offset`, which now
    /// holds `present`, over all up to the packet's end.
    fn is_checksum_partial(&mut self, offset: usize, present: u16) -> bool;

    /// Cuts off what follows `end`, and puts headers in front of the network header, which
    /// is at `network` behind an Ethernet header or nothing. The flow's offloads end.
    fn prepend<T: Bytes>(&mut self, network: usize, end: usize, headers: &T) -> Option<()>;

    /// Puts an outer IP header of the same version in front of the network header, which is
    /// at `network` behind an Ethernet header or nothing. The flow's offloads go on inside.
    fn encapsulate<T: Bytes>(&mut self, network: usize, outer: &T) -> Option<()>;

    /// Takes away the outer IP header, `length` bytes at `network`.
    fn decapsulate(&mut self, network: usize, length: usize) -> Option<()>;
}

/// Lets headers be read, which have these sizes.
macro_rules! header_bytes {
    ($($type:ty = $size:literal),*) => {
        $(
            const _: () = assert!(size_of::<$type>() == $size);
            // SAFETY: `#[repr(C)]` of integers, and the size shows that there is
            // no padding.
            #[expect(unsafe_code, reason = "a promise about memory layout")]
            unsafe impl $crate::layout::Bytes for $type {}
        )*
    };
}

pub(crate) use header_bytes;
