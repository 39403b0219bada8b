//! Addresses as Kubernetes reads them: `ParseIPSloppy` and `ParseCIDRSloppy` of `k8s.io/utils/net`
//! take leading zeros in the decimal parts of an IPv4 address, and an IPv4-mapped IPv6 address for
//! the IPv4 address in it. Objects with such texts are older than the API server's refusal of them.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// An address; `None` where the text is none.
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    parse_ip_as_written(text).map(|address| address.to_canonical())
}

/// The same, in which an IPv4-mapped address stays one of IPv6.
pub fn parse_ip_as_written(text: &str) -> Option<IpAddr> {
    without_leading_zeros(text)?.parse().ok()
}

/// A range of addresses, without the bits behind its prefix; `None` where the text is none.
pub fn parse_range(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = without_leading_zeros(address)?.parse().ok()?;
    let range = IpNet::new(address, decimal(prefix)?).ok()?;
    Some(range.trunc())
}

/// The text of an address in which its decimal parts, if it has any, are written as usual; `None`
/// where one of them is no part of an IPv4 address.
fn without_leading_zeros(text: &str) -> Option<Cow<'_, str>> {
    let start = text.rfind(':').map_or(0, |colon| colon + 1);
    let (before, decimals) = text.split_at(start);
    if !decimals.contains('.') {
        return Some(Cow::Borrowed(text));
    }
    let mut octets = [0; 4];
    let mut parts = decimals.split('.');
    for octet in &mut octets {
        *octet = decimal(parts.next()?)?;
    }
    let address = Ipv4Addr::from(octets);
    parts
        .next()
        .is_none()
        .then(|| format!("{before}{address}").into())
}

/// A decimal number of any length that is not above 255.
fn decimal(text: &str) -> Option<u8> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    match digits {
        _ if !is_number => None,
        "" => Some(0),
        digits => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_are_no_octal_numbers() {
        for (text, expected) in [
            ("203.000.113.005", "203.0.113.5"),
            ("010.010.010.010", "10.10.10.10"),
            ("0000001.2.3.4", "1.2.3.4"),
            ("0.0.0.0", "0.0.0.0"),
            ("2001:db8::010.0.0.1", "2001:db8::a00:1"),
            ("2001:0db8::0001", "2001:db8::1"),
        ] {
            assert_eq!(parse_ip(text), Some(expected.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_one_in_it() {
        for text in ["::ffff:192.0.2.1", "::ffff:c000:201", "::FFFF:192.000.2.1"] {
            assert_eq!(parse_ip(text), Some(IpAddr::from([192, 0, 2, 1])), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_none() {
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.-4",
            "1.2.3.+4",
            "1.2.3.",
            "1..2.3",
            " 1.2.3.4",
            "1.2.3.4 ",
            "0x1.2.3.4",
            "fe80::1%eth0",
            "1::2::3",
            "::ffff:1.2.3",
            "web",
            "1.2.3.4/32",
        ] {
            assert_eq!(parse_ip(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_are_read_alike() {
        for (text, expected) in [
            ("010.001.2.3/08", Some("10.0.0.0/8")),
            ("10.0.0.0/8", Some("10.0.0.0/8")),
            ("2001:db8::1/32", Some("2001:db8::/32")),
            ("0.0.0.0/0", Some("0.0.0.0/0")),
            ("10.0.0.0/33", None),
            ("2001:db8::/129", None),
            ("10.0.0.0", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/+8", None),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(parse_range(text), expected, "{text}");
        }
    }
}
