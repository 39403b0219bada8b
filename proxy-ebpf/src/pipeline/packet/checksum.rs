//! The Internet checksum, updated incrementally (RFC 1624).

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

    /// The checksum that follows from `sum`; both as they are in memory.
    ///
    /// The same arithmetic as the kernel's `csum_replace_by_diff`, so that host
    /// and kernel agree also in which zero they choose.
    #[inline(always)]
    pub fn apply(self, sum: u16) -> u16 {
        !fold_to_16(u64::from(self.0) + u64::from(!u32::from(sum)))
    }

    /// The same for a UDP checksum, of which 0 says that there is none, and a sum of 0
    /// is sent as all ones (RFC 768).
    #[inline(always)]
    pub fn apply_to_udp(self, sum: u16) -> u16 {
        let new = self.apply(sum);
        (new | ones_if_zero(new)) & !ones_if_zero(sum)
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
        assert_eq!(delta.apply_to_udp(0xdd2f), 0xffff);
        assert_eq!(delta.apply_to_udp(0), 0);
        assert_eq!(delta.apply_to_udp(0xdd2e), delta.apply(0xdd2e));
    }

    #[test]
    fn no_change_keeps_the_sum() {
        let delta = Delta::between(&[0x1234_5678], &[0x1234_5678]);
        assert_eq!(delta.apply(0xbeef), 0xbeef);
    }
}
