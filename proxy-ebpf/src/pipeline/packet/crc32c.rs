//! The checksum of SCTP (RFC 9260, appendix A), updated incrementally.
//!
//! A CRC is linear: a change of some bytes changes it by the CRC of the difference, without
//! initial value and final complement. As a polynomial over GF(2), the first 32 bits of n bytes
//! have the factor x^8n. So the change of the checksum is one multiplication, and the bytes after
//! the changed ones do not matter.
//!
//! A polynomial of a degree below 32 is a number here, with the coefficient of x^0 in its highest
//! bit: the order in which the checksum processes the bits of a packet.

/// x^32 modulo the polynomial of the checksum.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0
const ONE: u32 = 1 << 31;
/// x^8
const BYTE: u32 = ONE >> 8;

const LOWER: [u32; 256] = powers(BYTE);

/// x^8n, for n below 256, and for multiples of 256.
static POWERS: [[u32; 256]; 2] = [LOWER, powers(multiply(LOWER[255], BYTE))];

/// How the checksum of `length` bytes changes where `change` is added to the first four of
/// them; both as they are in the packet's memory.
///
/// Not part of the programs' one function: the kernel verifies a global one by itself, once
/// for each program (Linux 5.6), not with every way that leads to it.
#[inline(never)]
#[cfg_attr(target_arch = "bpf", unsafe(no_mangle))]
#[cfg_attr(
    target_arch = "bpf",
    expect(unsafe_code, reason = "a name that is nobody else's")
)]
pub(crate) extern "C" fn crc32c_change_at_start(change: u32, length: u32) -> u32 {
    let [.., higher, lower] = length.to_be_bytes();
    let [low_powers, high_powers] = &POWERS;
    let lower = low_powers[usize::from(lower)];
    let higher = high_powers[usize::from(higher)];
    multiply(multiply(u32::from_le(change), lower), higher).to_le()
}

const fn powers(base: u32) -> [u32; 256] {
    let mut powers = [ONE; 256];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = multiply(powers[exponent - 1], base);
        exponent += 1;
    }
    powers
}

/// The product of two polynomials, modulo the checksum's. Without a branch: the kernel's
/// verifier would follow each.
#[inline(always)]
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut exponent = 0;
    while exponent < u32::BITS {
        product ^= b & mask(a >> (31 - exponent));
        b = b >> 1 ^ POLYNOMIAL & mask(b);
        exponent += 1;
    }
    product
}

/// All bits like the lowest one.
#[inline(always)]
const fn mask(bit: u32) -> u32 {
    (bit & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use crc::{CRC_32_ISCSI, Crc};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_change_at_the_start_is_told_by_itself_and_the_length(
            bytes in prop::collection::vec(any::<u8>(), 4..3000),
            change in any::<[u8; 4]>(),
        ) {
            let crc = Crc::<u32>::new(&CRC_32_ISCSI);
            let mut changed = bytes.clone();
            for (byte, flipped) in changed.iter_mut().zip(change) {
                *byte ^= flipped;
            }
            let length = u32::try_from(bytes.len()).unwrap();
            let expected = crc32c_change_at_start(u32::from_ne_bytes(change), length);
            prop_assert_eq!(u32::from_le(expected), crc.checksum(&bytes) ^ crc.checksum(&changed));
        }
    }
}
