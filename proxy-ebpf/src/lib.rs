//! The data path, written once.
//!
//! - [`layout`]: keys and values of the kernel's maps, shared with the agent.
//! - [`pipeline`]: what happens to a packet; generic over the IP version
//!   ([`layout::Address`]), over where the bytes are ([`pipeline::Packet`]) and
//!   over the maps ([`pipeline::Tables`]).
//! - `host` (feature `host`): packets in memory and maps in memory, so that the
//!   very code that runs in the kernel also runs in tests and fuzzers.
//!
//! The programs themselves, one file a hook, are the binary in `src/programs`.

#![cfg_attr(not(any(test, feature = "host", feature = "agent")), no_std)]

#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod layout;
pub mod pipeline;

#[cfg(test)]
#[path = "../tests/pipeline/mod.rs"]
mod pipeline_tests;
