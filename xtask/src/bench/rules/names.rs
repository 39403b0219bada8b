//! The names of chains and sets: a part of a hash, so that they are unique, and in
//! nftables mode what they stand for, so that people can read them.

use std::fmt::Write as _;

use data_encoding::BASE32;
use sha2::{Digest as _, Sha256};

use super::ServicePort;

/// How long a name of nftables mode may get, without its prefix; proxier.go says why.
const LONGEST: usize = 240;

/// The end of the names of a Service port's chains in iptables mode: `KUBE-SVC-<this>`.
pub(super) fn iptables_service(port: &ServicePort) -> String {
    hash::<10>(&[&port.title, port.protocol])
}

/// The chain of one endpoint in iptables mode.
pub(super) fn iptables_endpoint(port: &ServicePort, endpoint: &str) -> String {
    let hash = hash::<10>(&[&port.title, port.protocol, endpoint]);
    format!("KUBE-SEP-{hash}")
}

/// The end of the names of a Service port's chains in nftables mode: `service-<this>`.
pub(super) fn nftables_service(port: &ServicePort) -> String {
    hashed(&port.path)
}

/// The end of the names of an endpoint's chain and set in nftables mode:
/// `endpoint-<this>`.
pub(super) fn nftables_endpoint(port: &ServicePort, endpoint: &str) -> String {
    let mut name = format!("{}__", port.path);
    let (address, number) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
    let _ = write!(name, "{address}/{number}");
    hashed(&name)
}

/// A name after a hash of itself, cut at the longest length.
fn hashed(name: &str) -> String {
    let mut hashed = format!("{}-{name}", hash::<5>(&[name]));
    if hashed.len() > LONGEST {
        hashed.truncate(LONGEST - "...".len());
        hashed.push_str("...");
    }
    hashed
}

/// The first `BYTES` of the SHA-256 of all parts, in base 32: eight digits of five bytes.
fn hash<const BYTES: usize>(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    BASE32.encode(&hash.finalize()[..BYTES])
}
