//! From the plan's terms to the layout's bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proxy_ebpf::layout::{Backend, FrontendKey, Port, V4, V6, backend_flags};

use crate::plan::{BackendEntry, FrontendId};

/// An IPv4 address as the maps have it.
pub fn v4(address: Ipv4Addr) -> V4 {
    V4([u32::from_ne_bytes(address.octets())])
}

/// An IPv6 address as the maps have it.
pub fn v6(address: Ipv6Addr) -> V6 {
    let bytes = address.octets();
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    V6([word(0), word(4), word(8), word(12)])
}

/// A value in one of the two families.
pub(super) enum Either<T4, T6> {
    V4(T4),
    V6(T6),
}

/// A frontend's key.
pub(super) fn frontend_key(id: &FrontendId) -> Either<FrontendKey<V4>, FrontendKey<V6>> {
    let (port, protocol) = (Port::new(id.port), id.protocol.number());
    match id.address {
        IpAddr::V4(address) => Either::V4(FrontendKey::new(v4(address), port, protocol)),
        IpAddr::V6(address) => Either::V6(FrontendKey::new(v6(address), port, protocol)),
    }
}

/// A backend's element.
pub(super) fn backend(entry: &BackendEntry) -> Either<Backend<V4>, Backend<V6>> {
    match entry.address {
        IpAddr::V4(address) => Either::V4(element(v4(address), entry)),
        IpAddr::V6(address) => Either::V6(element(v6(address), entry)),
    }
}

fn element<A>(address: A, entry: &BackendEntry) -> Backend<A> {
    Backend {
        address,
        port: Port::new(entry.port),
        flags: if entry.local { backend_flags::LOCAL } else { 0 },
        generation: entry.generation,
        service: entry.service,
    }
}
