//! The Internet checksum (RFC 1071) and SCTP's (RFC 9260, appendix A), computed over
//! everything that they cover.

use std::net::IpAddr;

use crc::{CRC_32_ISCSI, Crc};

/// The checksum of bytes whose checksum field is 0; 0 for bytes that hold a valid
/// one.
pub(super) fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("folded")
}

/// The checksum of SCTP, of bytes whose checksum field is 0.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    Crc::<u32>::new(&CRC_32_ISCSI).checksum(bytes)
}

/// The pseudo header of a transport checksum (RFC 9293 section 3.1, RFC 8200
/// section 8.1).
pub(super) fn pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> Vec<u8> {
    let length = u32::try_from(length).expect("a packet").to_be_bytes();
    let mut bytes = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend(length);
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn example_of_rfc_1071() {
        // Section 3: the sum of these is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum([&bytes[..]]), !0xddf2);
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_half() {
        assert_eq!(checksum([&[0x12u8, 0x34, 0x56][..]]), !(0x1234 + 0x5600));
    }
}
