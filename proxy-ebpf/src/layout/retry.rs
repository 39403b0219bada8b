//! Connections that were translated at their sockets and are to be translated on the way.

use super::{Bytes, Port, V4, V6};

/// Value of `RETRIES_*`, under the tuple of a socket's packets: its endpoint has not answered, and
/// the SYN is about to be sent again, which may go to another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Retry<A> {
    /// The frontend to which the socket was to be connected: its address.
    pub address: A,
    /// Its port.
    pub port: Port,
    /// Zero.
    pub pad: u16,
    /// Index of the backend that has not answered.
    pub backend: u32,
    /// That backend's generation when it was picked.
    pub generation: u32,
    /// The sequence number that follows the SYN: another connection with this tuple has another.
    pub syn_end: u32,
}

/// Elements of `RETRIES_*`: connections that wait for an answer at one time.
pub const RETRIES: u32 = 8192;

sizes! {
    Retry<V4> = [4 2 2 4 4 4], align 4;
    Retry<V6> = [16 2 2 4 4 4], align 4;
}

bytes! { Retry<V4>, Retry<V6> }
