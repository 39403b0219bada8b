//! The pipeline against a second opinion.
//!
//! What a packet has to become is said by `proxy_tests::packets`, which shares no
//! code with the pipeline: it describes the translated packet and builds it anew,
//! with every checksum computed over all that it covers. So most tests compare whole
//! packets, byte for byte.

mod affinity;
mod caller;
mod calls;
mod checksums;
mod conflicts;
mod crowding;
mod direct;
mod endpoints;
mod expiry;
mod fixtures;
mod fragments;
mod handshakes;
mod hashed;
mod hosts;
mod layers;
mod lengths;
mod lifetimes;
mod live_flows;
mod maps;
mod martians;
mod nowhere;
mod own_connections;
mod paths_agree;
mod plain;
mod ports;
mod records;
mod rejects;
mod resets;
mod retries;
mod round_trips;
mod sctp;
mod sockets;
mod source_ranges;
mod spoofed;
mod traced;
mod traffic;
mod two_ways;
mod unanswered;
mod unreachable;
mod untouched;
mod world;
mod xdp;
