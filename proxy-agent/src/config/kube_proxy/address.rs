//! Addresses and address ranges as kube-proxy takes them.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::form::Wrong;
use crate::model::NodePortAddresses;
pub(super) use crate::model::{parse_ip_as_written as ip, parse_range as range};

/// An address with a port, which is `port` if there is none.
pub(super) fn endpoint(text: &str, port: u16) -> Result<SocketAddr, String> {
    if let Some(ip) = ip(text) {
        return Ok((ip, port).into());
    }
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("`{text}` is no address with a port, such as `0.0.0.0:{port}`"))?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = match bare {
        Some(host) => ip(host),
        // Without brackets it would not be clear where the port begins.
        None if host.contains(':') => None,
        None => ip(host),
    };
    let address = address.ok_or_else(|| format!("`{host}` is no address"))?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("`{port}` is no port from 1 to 65535"))?;
    Ok((address, port).into())
}

/// Checks a text of one range, or one of each IP version with a comma between them.
pub(super) fn check_ranges(text: &str) -> Result<(), String> {
    let mut is_taken = [false; 2];
    for part in text.split(',') {
        let part = part.trim();
        let Some(net) = range(part) else {
            return Err(format!(
                "`{part}` is no address range such as `10.100.0.0/16` or `fd00:100::/48`"
            ));
        };
        let version = usize::from(net.addr().is_ipv6());
        if std::mem::replace(&mut is_taken[version], true) {
            return Err("there may be one range of each IP version".to_owned());
        }
    }
    Ok(())
}

/// The addresses in a list of ranges and the words `primary`, `localhost` and
/// `all`. An IP version that the list does not speak of has all addresses, as
/// kube-proxy has it.
pub(super) fn node_port_addresses<'a>(
    texts: impl IntoIterator<Item = &'a str>,
) -> Result<NodePortAddresses, Wrong> {
    let mut found = NodePortAddresses {
        primary: false,
        v4: Vec::new(),
        v6: Vec::new(),
    };
    for (number, text) in texts.into_iter().enumerate() {
        let words: &[&str] = match text {
            "primary" => {
                found.primary = true;
                continue;
            }
            "localhost" => &["127.0.0.0/8", "::1/128"],
            "all" => &["0.0.0.0/0", "::/0"],
            text => &[text],
        };
        for word in words {
            match range(word) {
                Some(IpNet::V4(net)) => found.v4.push(net),
                Some(IpNet::V6(net)) => found.v6.push(net),
                None => {
                    let reason = format!(
                        "`{text}` is no address range such as `10.0.0.0/8`, nor `primary`, \
                         `localhost` or `all`"
                    );
                    return Err(Wrong::Item(number, reason));
                }
            }
        }
    }
    if !found.primary && found.v4.is_empty() {
        found.v4.push(Ipv4Net::default());
    }
    if !found.primary && found.v6.is_empty() {
        found.v6.push(Ipv6Net::default());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn addresses_are_read_as_kubernetes_reads_them() {
        for (text, wanted) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("010.0.00.1", Some("10.0.0.1")),
            ("fd00::1", Some("fd00::1")),
            ("::ffff:192.0.2.1", Some("::ffff:192.0.2.1")),
            ("10.0.0", None),
            ("10..0.1", None),
            ("256.0.0.1", None),
            ("node1", None),
            ("", None),
        ] {
            let wanted = wanted.map(|wanted| wanted.parse().unwrap());
            assert_eq!(ip(text), wanted, "{text}");
        }
    }

    #[test]
    fn node_ports_answer_where_they_are_allowed() {
        let list = |texts: &[&str]| {
            if texts.is_empty() {
                return NodePortAddresses::default();
            }
            node_port_addresses(texts.iter().copied()).unwrap()
        };
        let one: IpAddr = "10.1.2.3".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        let six: IpAddr = "fd00::1".parse().unwrap();
        for (texts, allowed) in [
            (&[][..], [true, false, false, false]),
            (&["primary"], [true, false, false, false]),
            (&["all"], [true, true, true, true]),
            (&["localhost"], [false, false, false, false]),
            // The list does not speak of IPv6.
            (&["10.0.0.0/8"], [true, true, false, true]),
            (&["10.9.9.9/8", "fd01::/16"], [true, true, false, false]),
            (&["primary", "192.0.2.0/24"], [true, false, true, false]),
        ] {
            let addresses = list(texts);
            let found = [
                addresses.allow(one, true),
                addresses.allow(one, false),
                addresses.allow(other, false),
                addresses.allow(six, false),
            ];
            assert_eq!(found, allowed, "{texts:?}");
        }
    }
}
