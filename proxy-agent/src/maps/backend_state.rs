//! How the endpoints are to which sockets' connections were translated.

use std::net::{IpAddr, SocketAddr};

use aya::Pod;
use proxy_ebpf::layout::{
    Address, Backend, Port, SocketCookie, SocketKey, SocketRecord, V4, V6, maps,
};

use super::elements::Indexed;
use super::handles::{Hash, MapSource, Open as _};
use super::{KernelMaps, MapError};

/// How the endpoint is to which a socket's connection was translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// It serves.
    Serving,
    /// Its life has ended.
    Removed,
    /// It has ended for so long that connections are reset.
    ResetDue,
}

/// `SOCKETS_*`
pub(super) struct Sockets {
    v4: Hash<SocketKey<V4>, SocketRecord<V4>>,
    v6: Hash<SocketKey<V6>, SocketRecord<V6>>,
}

impl Sockets {
    pub(super) fn open(from: &mut impl MapSource) -> Result<Self, MapError> {
        Ok(Self {
            v4: Hash::open(from, maps::SOCKETS_V4)?,
            v6: Hash::open(from, maps::SOCKETS_V6)?,
        })
    }
}

impl KernelMaps {
    /// How `peer` is as an endpoint, if the connection of the socket with this cookie was
    /// translated to it.
    pub fn backend_state(
        &mut self,
        cookie: SocketCookie,
        peer: SocketAddr,
    ) -> Option<BackendState> {
        let port = Port::new(peer.port());
        match peer.ip() {
            IpAddr::V4(address) => backend_state(
                &self.sockets.v4,
                &mut self.v4.backends,
                cookie,
                (address.into(), port),
            ),
            IpAddr::V6(address) => backend_state(
                &self.sockets.v6,
                &mut self.v6.backends,
                cookie,
                (address.into(), port),
            ),
        }
    }
}

fn backend_state<A: Address>(
    sockets: &Hash<SocketKey<A>, SocketRecord<A>>,
    backends: &mut impl Indexed<Backend<A>>,
    cookie: SocketCookie,
    (address, port): (A, Port),
) -> Option<BackendState>
where
    SocketKey<A>: Pod,
    SocketRecord<A>: Pod,
{
    let record = sockets.get(&SocketKey::connected(cookie))?;
    if !record.is_connected_to(&address, port) {
        return None;
    }
    let backend = backends.get(record.backend).ok()?;
    Some(if backend.is_current(record.generation) {
        BackendState::Serving
    } else if backend.resets(record.generation) {
        BackendState::ResetDue
    } else {
        BackendState::Removed
    })
}
