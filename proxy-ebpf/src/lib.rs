//! The data path, written once.
//!
//! - [`layout`]: keys and values of the kernel's maps, shared with the agent.
//! - [`pipeline`]: what happens to a packet; generic over the IP version
//!   ([`layout::Address`]), over where the bytes are ([`pipeline::Packet`]) and
//!   over the maps ([`pipeline::Tables`]).
//! - [`flow_table`]: the flow table, of which programs and agent share the memory.
//! - `host` (feature `host`): packets in memory and maps in memory, so that the
//!   very code that runs in the kernel also runs in tests and fuzzers.
//!
//! The programs themselves, one file a hook, are the binary in `src/programs`.

#![cfg_attr(not(any(test, feature = "host", feature = "agent")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod flow_table;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod layout;
pub mod pipeline;
mod verifier;

#[cfg(test)]
#[path = "../tests/pipeline/mod.rs"]
mod pipeline_tests;
