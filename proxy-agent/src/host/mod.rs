//! The machine itself, as far as its own sockets and translated packets could get into
//! each other's way.
//!
//! A flow that leaves with this node's address has a source port of its own. Replies
//! are distinguished from the host's own traffic by addresses and ports, so that port must be
//! none that a socket of the host has or could get.

mod conntrack;
mod memory;
mod nat_ports;
mod nft_chains;
mod sockets;

use std::collections::BTreeSet;
use std::time::Duration;
use std::{fs, io};

use tokio::sync::watch;
use tracing::warn;

use crate::config::PortRange;
pub use conntrack::{Connection, Conntrack, Entry, EntryWriter, TcpState, TrackedConnection};
pub use memory::total_memory;
pub use nat_ports::{NODE_PORTS, NatPorts, nat_ports};
pub use nft_chains::{NftChain, has_nat, nft_chains};
pub use sockets::{ConnectedSocket, connected_tcp, connected_udp, destroy};

/// How often the host's sockets are looked over.
const INTERVAL: Duration = Duration::from_secs(10);

const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RESERVED: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// The ports that are the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPorts {
    /// Ports from which the kernel gives one to a socket that asks for none in
    /// particular: `net.ipv4.ip_local_port_range`, for both IP versions.
    pub ephemeral: Option<PortRange>,
    /// Ports that the kernel gives to no such socket: `ip_local_reserved_ports`.
    pub reserved: Vec<PortRange>,
    /// Ports that sockets are bound to, other than ephemeral ones.
    pub bound: BTreeSet<u16>,
}

/// Why the host's ports cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file that cannot be read or understood.
    #[error("cannot read {path}")]
    File {
        /// The file.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not list its sockets.
    #[error("cannot list the host's sockets by sock_diag(7)")]
    Sockets(#[source] io::Error),
}

impl HostPorts {
    /// Reads them, in the network namespace of the calling thread.
    pub async fn read() -> Result<Self, HostError> {
        let mut ephemeral = read(EPHEMERAL, parse_ephemeral)?;
        let bound = sockets::bound().await.map_err(HostError::Sockets)?;
        Ok(Self {
            ephemeral: ephemeral.pop(),
            reserved: read(RESERVED, parse_ranges)?,
            bound,
        })
    }

    /// Whether the kernel may give this port to any socket.
    pub fn is_ephemeral(&self, port: u16) -> bool {
        self.ephemeral.is_some_and(|range| range.contains(port))
            && !self.reserved.iter().any(|range| range.contains(port))
    }
}

/// Looks at the host's ports now and again; the receiver gets changes. What is not
/// to be read stays as it was.
pub fn watch(first: HostPorts) -> watch::Receiver<HostPorts> {
    let (sender, receiver) = watch::channel(first);
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(INTERVAL);
        // The first tick comes at once.
        interval.tick().await;
        while !sender.is_closed() {
            interval.tick().await;
            match HostPorts::read().await {
                Ok(now) => drop(sender.send_if_modified(|known| {
                    let is_new = *known != now;
                    *known = now;
                    is_new
                })),
                Err(error) => warn!("{:#}; will retry", anyhow::Error::from(error)),
            }
        }
    });
    receiver
}

fn read(
    path: &'static str,
    parse: impl FnOnce(&str) -> Option<Vec<PortRange>>,
) -> Result<Vec<PortRange>, HostError> {
    fs::read_to_string(path)
        .and_then(|text| parse(text.trim()).ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map_err(|source| HostError::File { path, source })
}

/// The two numbers of `ip_local_port_range` (ip(7)).
fn parse_ephemeral(text: &str) -> Option<Vec<PortRange>> {
    let (first, last) = text.split_once(char::is_whitespace)?;
    Some(vec![PortRange {
        first: first.parse().ok()?,
        last: last.trim().parse().ok()?,
    }])
}

/// The list of `ip_local_reserved_ports`: `1,2-4,10-10`.
fn parse_ranges(text: &str) -> Option<Vec<PortRange>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(PortRange {
                first: first.parse().ok()?,
                last: last.parse().ok()?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn the_kernels_lists_are_understood() {
        assert_eq!(
            parse_ephemeral("32768\t60999"),
            Some(vec![range(32_768, 60_999)])
        );
        assert_eq!(parse_ephemeral("32768"), None);
        assert_eq!(parse_ranges(""), Some(vec![]));
        assert_eq!(
            parse_ranges("1,2-4,8080"),
            Some(vec![range(1, 1), range(2, 4), range(8080, 8080)])
        );
        assert_eq!(parse_ranges("1,x"), None);
    }

    #[test]
    fn a_reserved_port_is_not_ephemeral() {
        let host = HostPorts {
            ephemeral: Some(range(100, 200)),
            reserved: vec![range(150, 160)],
            ..HostPorts::default()
        };
        let ephemeral: Vec<_> = [99, 100, 149, 150, 160, 161, 200, 201]
            .into_iter()
            .filter(|port| host.is_ephemeral(*port))
            .collect();
        assert_eq!(ephemeral, [100, 149, 161, 200]);
    }

    #[tokio::test]
    async fn a_bound_port_is_seen() {
        let tcp = std::net::TcpListener::bind("[::1]:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let bound = sockets::bound().await.unwrap();
        assert!(bound.contains(&tcp.local_addr().unwrap().port()));
        assert!(bound.contains(&udp.local_addr().unwrap().port()));
    }
}
