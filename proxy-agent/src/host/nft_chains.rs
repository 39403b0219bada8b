//! The chains of nftables, where those of `iptables-nft` are, too, by nfnetlink.

use std::{fs, io};

use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NlasIterator};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

// Of `linux/netlink.h`, `linux/netfilter/nfnetlink.h` and `linux/netfilter/nf_tables.h`.
const NLMSG_HEADER: usize = 16;
const NFGEN_HEADER: usize = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_TYPE: u16 = 7;

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NftChain {
    /// The name of its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// What it is for, where packets come to it by themselves: `filter`, `nat` or `route`.
    pub kind: String,
}

/// All chains of this network namespace.
///
/// # Errors
///
/// The kernel has no nftables, or the process lacks `CAP_NET_ADMIN`.
pub fn nft_chains() -> io::Result<Vec<NftChain>> {
    let socket = Socket::new(NETLINK_NETFILTER)?;
    socket.send_to(&request(), &SocketAddr::new(0, 0), 0)?;
    let mut chains = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        if read(&datagram, &mut chains)? {
            return Ok(chains);
        }
    }
}

/// Where iptables without nftables names its tables, those of either IP version.
const LEGACY_TABLES: [&str; 2] = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];

/// Whether packets of this network namespace come to a chain that translates: without one, entries
/// of connection tracking translate nothing.
pub fn has_nat() -> bool {
    let has_chain = nft_chains().is_ok_and(|chains| chains.iter().any(|it| it.kind == "nat"));
    let names_nat = |path: &&str| {
        let names = fs::read_to_string(path);
        names.is_ok_and(|names| names.lines().any(|name| name == "nat"))
    };
    has_chain || LEGACY_TABLES.iter().any(names_nat)
}

/// All chains of all families.
fn request() -> Vec<u8> {
    /// Of both headers.
    const LENGTH: u32 = 16 + 4;
    let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
    let mut bytes = Vec::new();
    bytes.extend(LENGTH.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    // Sequence number, port, and of netfilter's header the family, version and resource.
    bytes.extend([0; 4 + 4 + NFGEN_HEADER]);
    bytes
}

/// Adds the chains of a datagram; true after the last one.
fn read(mut rest: &[u8], chains: &mut Vec<NftChain>) -> io::Result<bool> {
    let cut_off = || io::Error::from(io::ErrorKind::InvalidData);
    while !rest.is_empty() {
        let (header, _) = rest.split_at_checked(NLMSG_HEADER).ok_or_else(cut_off)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body = rest.get(NLMSG_HEADER..length).ok_or_else(cut_off)?;
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = body.first_chunk().ok_or_else(cut_off)?;
                return match i32::from_ne_bytes(*code) {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            _ => chains.push(chain(body.get(NFGEN_HEADER..).ok_or_else(cut_off)?)?),
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn chain(attributes: &[u8]) -> io::Result<NftChain> {
    let mut chain = NftChain::default();
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(io::Error::other)?;
        let text = String::from_utf8_lossy(attribute.value());
        let text = text.trim_end_matches('\0').to_owned();
        match attribute.kind() {
            NFTA_CHAIN_TABLE => chain.table = text,
            NFTA_CHAIN_NAME => chain.name = text,
            NFTA_CHAIN_TYPE => chain.kind = text,
            _ => {}
        }
    }
    Ok(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of `kind`.
    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = request();
        bytes.truncate(NLMSG_HEADER);
        let length = u32::try_from(NLMSG_HEADER + body.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend(body);
        bytes
    }

    fn attribute(kind: u16, text: &str) -> Vec<u8> {
        let length = u16::try_from(4 + text.len() + 1).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(text.as_bytes());
        bytes.resize(usize::from(length.next_multiple_of(4)), 0);
        bytes
    }

    #[test]
    fn chains_are_read_until_the_last() {
        let body = [
            vec![0; NFGEN_HEADER],
            attribute(NFTA_CHAIN_TABLE, "nat"),
            attribute(9, "other"),
            attribute(NFTA_CHAIN_NAME, "PREROUTING"),
            attribute(NFTA_CHAIN_TYPE, "nat"),
        ];
        let mut chains = Vec::new();
        let datagram = message(0x0a03, &body.concat());
        assert!(!read(&datagram, &mut chains).unwrap());
        assert!(read(&message(NLMSG_DONE, &[0; 4]), &mut chains).unwrap());
        let expected = NftChain {
            table: "nat".to_owned(),
            name: "PREROUTING".to_owned(),
            kind: "nat".to_owned(),
        };
        assert_eq!(chains, [expected]);
    }

    #[test]
    fn what_the_kernel_refuses_and_what_is_cut_off_are_errors() {
        let refused = message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes());
        let error = read(&refused, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        let good = message(0x0a03, &[0; NFGEN_HEADER]);
        assert!(read(&good[..good.len() - 1], &mut Vec::new()).is_err());
        assert!(read(&good[..7], &mut Vec::new()).is_err());
    }

    #[test]
    fn this_machines_chains_can_be_asked_for() {
        nft_chains().unwrap();
    }
}
