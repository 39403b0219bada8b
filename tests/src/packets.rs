//! Packets for tests of the data path: described, built and checked.
//!
//! This is a second opinion: nothing here uses the pipeline or its layout. A
//! [`Packet`] says what a packet is, [`Packet::build`] makes its bytes, with every
//! checksum computed over all that it covers. What a translated packet has to look
//! like is said by changing the description and building again, so tests compare
//! whole packets, byte for byte.
//!
//! Random packets come from [`Choices`], a stream of bytes: a property test, a
//! fuzzer or a plain generator of noise can be behind it.

mod build;
mod check;
mod checksum;
mod choices;
mod elements;
mod fixtures;
mod fragments;
mod packet;
mod random;
mod scenario;
mod seeds;

pub use check::{Checksums, Places};
pub use choices::{Choices, noise};
pub use elements::Element;
pub use fixtures::{Fixture, Frame, Outcome, Suite, fixtures};
pub use packet::{
    Ethernet, Extension, FIRST_SEQUENCE, Fragment, LINK_ADDRESS, NEIGHBOUR, Network, Packet, Tag,
    Transport, Tunnel, chunks, tcp_flags,
};
pub use scenario::{Backend, Frontend, Hook, Protocol, Scenario, address};
pub use seeds::{Script, Step, seeds};
