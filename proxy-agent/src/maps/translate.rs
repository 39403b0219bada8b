//! From the plan's terms to the layout's bytes.

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_ebpf::layout::{Backend, FrontendKey, Port, SourceRange, V4, V6};

use crate::plan::{BackendEntry, FrontendId};

/// A value in one of the two families.
pub(super) enum Either<T4, T6> {
    V4(T4),
    V6(T6),
}

/// A frontend's key.
pub(super) fn frontend_key(id: &FrontendId) -> Either<FrontendKey<V4>, FrontendKey<V6>> {
    let (port, protocol) = (Port::new(id.port), id.protocol.number());
    match id.address {
        IpAddr::V4(address) => Either::V4(FrontendKey::new(address.into(), port, protocol)),
        IpAddr::V6(address) => Either::V6(FrontendKey::new(address.into(), port, protocol)),
    }
}

/// A backend's element.
pub(super) fn backend(entry: &BackendEntry) -> Either<Backend<V4>, Backend<V6>> {
    match entry.address {
        IpAddr::V4(address) => Either::V4(element(address.into(), entry)),
        IpAddr::V6(address) => Either::V6(element(address.into(), entry)),
    }
}

fn element<A>(address: A, entry: &BackendEntry) -> Backend<A> {
    Backend {
        address,
        port: Port::new(entry.port),
        flags: entry.flags,
        generation: entry.generation,
        service: entry.service,
    }
}

/// A range of sources of a Service port, with the length of its prefix in bits.
pub(super) fn source_range(
    service: u32,
    range: IpNet,
) -> Either<(u32, SourceRange<V4>), (u32, SourceRange<V6>)> {
    let prefix = u32::BITS + u32::from(range.prefix_len());
    match range.network() {
        IpAddr::V4(address) => {
            let source = address.into();
            Either::V4((prefix, SourceRange { service, source }))
        }
        IpAddr::V6(address) => {
            let source = address.into();
            Either::V6((prefix, SourceRange { service, source }))
        }
    }
}
