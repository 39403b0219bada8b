//! A packet's bytes: access, headers, checksums and rewriting.
//!
//! Nothing here knows flows or Services. What differs between the IP versions is in the trait
//! [`IpVersion`]; `ip` implements it.

pub(crate) mod access;
pub(crate) mod checksum;
pub(crate) mod crc32c;
pub(crate) mod hash;
pub(crate) mod headers;
pub(crate) mod icmp;
pub(crate) mod parse;
pub(crate) mod rewrite;
pub(crate) mod sctp;
pub(crate) mod tunnel;
pub(crate) mod version;

pub(crate) use access::Packet;
pub(crate) use checksum::Delta;
pub(crate) use headers::{Headers, Skip};
pub(crate) use version::IpVersion;
