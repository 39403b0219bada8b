//! The Internet checksum, updated incrementally (RFC 1624).

use crate::layout::protocol;
use crate::verifier::{all_ones_if_zero, choose};

/// Offset of the checksum in a TCP header.
pub(crate) const TCP_CHECKSUM: usize = 16;

/// Offset of the checksum in a UDP header.
pub(crate) const UDP_CHECKSUM: usize = 6;

/// The one's complement difference between old bytes and new ones, as the
/// kernel's checksum helpers take it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delta(u32);

impl Delta {
    /// From old words to new words, each as it is in the packet's memory.
    #[inline(always)]
    pub fn between(old: &[u32], new: &[u32]) -> Self {
        let mut sum = 0u64;
        for word in old {
            sum += u64::from(!word);
        }
        for word in new {
            sum += u64::from(*word);
        }
        Self(fold_to_32(sum))
    }

    /// Both differences in one.
    #[inline(always)]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(fold_to_32(u64::from(self.0) + u64::from(other.0)))
    }

    /// The difference as the kernel's helpers want it (`__wsum`).
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether a sum stays as it is.
    #[inline(always)]
    pub fn is_zero(self) -> bool {
        // Zero is also written as all ones.
        fold_to_16(self.0.into()).wrapping_add(1) <= 1
    }

    /// The checksum that follows from `sum`; both as they are in memory.
    ///
    /// The same arithmetic as the kernel's `csum_replace_by_diff`, so that host
    /// and kernel agree also in which zero they choose.
    #[inline(always)]
    pub fn apply(self, sum: u16) -> u16 {
        !fold_to_16(u64::from(self.0) + u64::from(!u32::from(sum)))
    }
}

/// The checksum of TCP or UDP in a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransportChecksum {
    /// Where it is.
    pub offset: usize,
    /// All ones where 0 says that there is none: of UDP (RFC 768).
    absent: u16,
}

impl TransportChecksum {
    /// That of the transport header at an offset. Without a branch: the kernel's verifier would
    /// follow each.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "all ones, or none")]
    pub fn at(transport: usize, number: u8) -> Self {
        let is_udp = all_ones_if_zero(u32::from(number ^ protocol::UDP));
        Self {
            offset: transport + choose(is_udp, UDP_CHECKSUM as u32, TCP_CHECKSUM as u32) as usize,
            absent: is_udp as u16,
        }
    }

    /// All ones where 0 says that there is none, else 0.
    #[inline(always)]
    pub const fn absent_mask(self) -> u32 {
        self.absent as u32
    }

    /// The checksum that follows from `sum`; of UDP a sum of 0 is sent as all ones.
    #[inline(always)]
    pub fn after(self, delta: Delta, sum: u16) -> u16 {
        let new = delta.apply(sum);
        (new | ones_if_zero(new) & self.absent) & !(ones_if_zero(sum) & self.absent)
    }
}

/// The difference of a packet's tuple to the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TupleDelta {
    /// That of the addresses, which are in the pseudo header.
    pub addresses: Delta,
    /// That of the ports, which are in the transport header.
    pub ports: Delta,
}

impl TupleDelta {
    /// Both differences in one.
    #[inline(always)]
    pub fn whole(self) -> Delta {
        self.addresses.and(self.ports)
    }
}

/// The checksum of what has this sum.
#[inline(always)]
pub(crate) fn checksum_of(sum: Delta) -> [u8; 2] {
    sum.apply(u16::MAX).to_ne_bytes()
}

/// All ones for 0, else 0. Without a branch: the kernel's verifier would follow each.
#[inline(always)]
fn ones_if_zero(sum: u16) -> u16 {
    (u32::from(sum).wrapping_sub(1) >> 16) as u16
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 32 bits")]
fn fold_to_32(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
fn fold_to_16(sum: u64) -> u16 {
    let sum = fold_to_32(sum);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_1624() {
        // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285, HC' = 0x0000.
        let delta = Delta::between(&[0x5555], &[0x3285]);
        assert_eq!(delta.apply(0xdd2f), 0x0000);
    }

    #[test]
    fn udp_has_no_checksum_of_zero() {
        let delta = Delta::between(&[0x5555], &[0x3285]);
        let [udp, tcp] = [protocol::UDP, protocol::TCP].map(|it| TransportChecksum::at(20, it));
        assert_eq!(udp.after(delta, 0xdd2f), 0xffff);
        assert_eq!(udp.after(delta, 0), 0);
        assert_eq!(udp.after(delta, 0xdd2e), delta.apply(0xdd2e));
        assert_eq!(tcp.after(delta, 0xdd2f), 0);
        assert_eq!(tcp.after(delta, 0), delta.apply(0));
    }

    #[test]
    fn a_difference_of_zero_has_two_forms() {
        assert!(Delta::between(&[7], &[7]).is_zero());
        assert!(Delta::between(&[], &[]).is_zero());
        assert!(!Delta::between(&[7], &[8]).is_zero());
        // Ones' complement: the halves have changed places.
        assert!(Delta::between(&[0x1234_5678], &[0x5678_1234]).is_zero());
    }

    #[test]
    fn no_change_keeps_the_sum() {
        let delta = Delta::between(&[0x1234_5678], &[0x1234_5678]);
        assert_eq!(delta.apply(0xbeef), 0xbeef);
    }
}
