//! End to end: the real agent in network namespaces, asked by real clients.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod api_server;
mod configuration;
mod connections;
mod datagrams;
mod devices;
mod dsr;
mod every_path;
mod faults;
mod flows;
mod frontends;
mod hashing;
mod health_checks;
mod hosts;
mod life;
mod links;
mod metrics;
mod mistakes;
mod networks;
mod path_mtu;
mod peers;
mod policies;
mod refusals;
mod restarts;
mod reuse;
mod rules;
mod scale;
mod sctp;
mod socket_path;
mod source_ports;
mod sources;
mod system_calls;
mod telling;
mod upgrade;
mod world;
mod xdp;
