//! What a new connection finds, for whoever explains it: the same functions that packets go through.

use super::frontend::find_frontend;
use super::pick::endpoint_set;
use crate::layout::{Address, Counter, Frontend, FrontendKey, Port, Span};
use crate::pipeline::tables::Tables;
use crate::pipeline::verdict::Client;

/// What a new connection finds.
#[derive(Clone, Copy, Debug)]
pub struct Seen<A> {
    /// Under which key its frontend is: a NodePort has the zero address.
    pub key: FrontendKey<A>,
    /// The frontend.
    pub frontend: Frontend,
    /// The slots of its candidates, or why there are none.
    pub candidates: Result<Span, Counter>,
}

/// What a client's new connection to `address` and `port` finds, if it is to a frontend.
pub fn look_up<A: Address, T: Tables<A>>(
    address: A,
    port: Port,
    protocol: u8,
    client: Client,
    tables: &T,
) -> Option<Seen<A>> {
    let mut key = FrontendKey::new(address, port, protocol);
    let frontend = find_frontend(&mut key, &address, client, tables)?;
    Some(Seen {
        key,
        frontend,
        candidates: endpoint_set(&frontend, client).map(|set| set.span),
    })
}
