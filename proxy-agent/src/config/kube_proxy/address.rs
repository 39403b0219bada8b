//! Addresses and address ranges as kube-proxy takes them.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::error::{Mistake, Place};

/// An address; as in Kubernetes the parts of an IPv4 address may begin with zeros.
pub(super) fn ip(text: &str) -> Option<IpAddr> {
    if text.contains(':') || !text.contains('.') {
        return text.parse().ok();
    }
    let parts: Vec<_> = text
        .split('.')
        .map(|part| match part.trim_start_matches('0') {
            "" if !part.is_empty() => "0",
            rest => rest,
        })
        .collect();
    parts.join(".").parse().ok()
}

/// A range; the address may be any in it.
pub(super) fn range(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let length = length
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then_some(length)?;
    let net = IpNet::new(ip(address)?, length.parse().ok()?).ok()?;
    Some(net.trunc())
}

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

/// The range of each IP version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// The range of IPv4.
    pub v4: Option<Ipv4Net>,
    /// The range of IPv6.
    pub v6: Option<Ipv6Net>,
}

impl Ranges {
    /// One range, or one of each IP version with a comma between them.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut ranges = Self::default();
        for part in text.split(',') {
            let part = part.trim();
            let taken = match range(part) {
                Some(IpNet::V4(net)) => ranges.v4.replace(net).is_some(),
                Some(IpNet::V6(net)) => ranges.v6.replace(net).is_some(),
                None => {
                    return Err(format!(
                        "`{part}` is no address range such as `10.100.0.0/16` or `fd00:100::/48`"
                    ));
                }
            };
            if taken {
                return Err("there may be one range of each IP version".to_owned());
            }
        }
        Ok(ranges)
    }
}

/// Which of the node's addresses answer on `NodePorts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortAddresses {
    /// The node's primary address of each IP version.
    pub primary: bool,
    /// Those of IPv4 in these ranges.
    pub v4: Vec<Ipv4Net>,
    /// Those of IPv6 in these ranges.
    pub v6: Vec<Ipv6Net>,
}

impl Default for NodePortAddresses {
    /// Primary addresses, as in kube-proxy's mode nftables: on all addresses (the
    /// default of its other modes) `NodePorts` would also be open on networks that
    /// were not meant to see them.
    fn default() -> Self {
        Self {
            primary: true,
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }
}

impl NodePortAddresses {
    /// The addresses in a list of ranges and the words `primary`, `localhost` and
    /// `all`. An IP version that the list does not speak of has all addresses, as
    /// kube-proxy has it.
    pub(super) fn parse(texts: &[(Place, String)], path: &str) -> Result<Self, Mistake> {
        let mut found = Self {
            primary: false,
            v4: Vec::new(),
            v6: Vec::new(),
        };
        if texts.is_empty() {
            return Ok(Self::default());
        }
        for (number, (place, text)) in texts.iter().enumerate() {
            let words: &[&str] = match text.as_str() {
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
                        let path = format!("{path}[{number}]");
                        let reason = format!(
                            "`{text}` is no address range such as `10.0.0.0/8`, nor `primary`, \
                             `localhost` or `all`"
                        );
                        return Err(Mistake::new(*place, &path, reason));
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

    /// Whether NodePorts answer on `address`, which may be the node's primary one.
    pub fn allow(&self, address: IpAddr, is_primary: bool) -> bool {
        let in_range = match address {
            IpAddr::V4(address) => self.v4.iter().any(|net| net.contains(&address)),
            IpAddr::V6(address) => self.v6.iter().any(|net| net.contains(&address)),
        };
        in_range || self.primary && is_primary
    }
}

#[cfg(test)]
mod tests {
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
            let texts: Vec<_> = texts
                .iter()
                .map(|text| (Place::default(), (*text).to_owned()))
                .collect();
            NodePortAddresses::parse(&texts, "nodePortAddresses").unwrap()
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
