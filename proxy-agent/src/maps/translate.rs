//! From the plan's terms to the layout's bytes.

use proxy_ebpf::layout::{Backend, FrontendKey, Port, SourceRange};

use crate::plan::{BackendEntry, FrontendId};

/// The key of a frontend with this address.
pub(super) fn frontend_key<A>(address: A, id: &FrontendId) -> FrontendKey<A> {
    FrontendKey::new(address, Port::new(id.port), id.protocol.number())
}

/// The element of a backend with this address.
pub(super) fn backend<A>(address: A, entry: &BackendEntry) -> Backend<A> {
    Backend {
        address,
        port: Port::new(entry.port),
        flags: entry.flags,
        generation: entry.generation,
        service: entry.service,
    }
}

/// A range of sources of a Service port, behind the length of its prefix in bits.
pub(super) fn source_range<A>(source: A, service: u32, prefix: u8) -> (u32, SourceRange<A>) {
    (
        u32::BITS + u32::from(prefix),
        SourceRange { service, source },
    )
}
