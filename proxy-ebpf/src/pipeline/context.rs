//! What is known of a packet all of its way through the pipeline.

use core::marker::PhantomData;

use super::verdict::Client;

/// A packet of IP version `A` at a hook or in a stage. Hooks and stages are its methods.
pub struct Context<'a, A, P, T> {
    /// Its bytes.
    pub packet: &'a mut P,
    /// Offset of its IP header.
    pub network: usize,
    /// The maps.
    pub tables: &'a T,
    /// Who sends through the device at which the program runs. At egress [`Client::Host`] where
    /// the packet may be this host's own to a Service.
    pub client: Client,
    version: PhantomData<A>,
}

impl<'a, A, P, T> Context<'a, A, P, T> {
    /// A packet whose IP header is at `network`.
    #[inline(always)]
    pub fn new(packet: &'a mut P, network: usize, tables: &'a T, client: Client) -> Self {
        Self {
            packet,
            network,
            tables,
            client,
            version: PhantomData,
        }
    }
}
