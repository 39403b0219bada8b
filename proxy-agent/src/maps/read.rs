//! Reading the maps back: from the layout's bytes to the plan's terms.

use std::net::IpAddr;

use ipnet::IpNet;
use proxy_ebpf::layout::{Address, Backend, Frontend, FrontendKey, SourceRange, backend_flags};

use super::{FilterRepairs, MapError};
use crate::model::object::Protocol;
use crate::plan::{BackendEntry, Content, Element, FrontendId};

/// Maps whose content can be read.
pub trait Readable {
    /// Reads what a plan has written. While nobody writes, that is exact.
    ///
    /// # Errors
    ///
    /// The kernel refuses to hand out a map's elements.
    fn read(&mut self) -> Result<Content, MapError>;

    /// Lets packets find all that was read, and the flows that there are, whatever agent has
    /// written them. In memory the filter follows from the rest.
    ///
    /// # Errors
    ///
    /// As of [`Self::read`].
    fn add_to_filter(&mut self, _: &Content) -> Result<(), MapError> {
        Ok(())
    }

    /// Lets packets find what was read, where they did not, and lets pass at once again what
    /// concerns nothing any more.
    ///
    /// # Errors
    ///
    /// As of [`Self::read`].
    fn reconcile_filter(&mut self, _: &Content) -> Result<FilterRepairs, MapError> {
        Ok(FilterRepairs::default())
    }
}

/// A frontend; `None` for one that no agent writes.
pub(super) fn frontend<A: Address + Into<IpAddr>>(
    key: &FrontendKey<A>,
    value: Frontend,
) -> Option<(FrontendId, Frontend)> {
    let id = FrontendId {
        address: key.address.into(),
        port: key.port.number(),
        protocol: Protocol::of_number(key.protocol)?,
    };
    Some((id, value))
}

/// A backend's element; `None` for one that was never used.
pub(super) fn element<A: Address + Into<IpAddr>>(backend: &Backend<A>) -> Option<Element> {
    if backend.generation == 0 {
        return None;
    }
    if !backend.is_current(backend.generation) {
        return Some(Element::Ended {
            endpoint: (backend.address.into(), backend.port.number()).into(),
            generation: backend.generation,
        });
    }
    Some(Element::Living(BackendEntry {
        address: backend.address.into(),
        port: backend.port.number(),
        // Whether it is suspect is no part of a plan.
        flags: backend.flags & !backend_flags::SUSPECT,
        generation: backend.generation,
        service: backend.service,
    }))
}

/// A range of sources of a Service port; `prefix` is in bits of the key.
pub(super) fn source_range<A: Address + Into<IpAddr>>(
    prefix: u32,
    range: &SourceRange<A>,
) -> Option<(u32, IpNet)> {
    let bits = u8::try_from(prefix.checked_sub(u32::BITS)?).ok()?;
    let range_of_sources = IpNet::new(range.source.into(), bits).ok()?;
    Some((range.service, range_of_sources))
}
