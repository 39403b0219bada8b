//! A cluster in network namespaces, for `cargo xtask demo` and the end-to-end tests.
//!
//! ```text
//!            client .100             The fabric is one layer 2 network,
//!               │                    172.31.0.0/24 and fd00:31::/64.
//!      ┌────────┴─────────┐
//!      │      fabric      │
//!      └─┬──────────────┬─┘          Nothing in here has a route out: a mistake
//!    eth0│.11       eth0│.12         cannot reach the machine or its network.
//!  ┌─────┴─────┐  ┌─────┴─────┐
//!  │   node1   │  │   node2   │      Each node runs a real agent, which sees
//!  │ (agent)   │  │ (agent)   │      this node's devices and a folder of
//!  └─┬───┬───┬─┘  └─┬───┬───┬─┘      Kubernetes objects.
//!   pod pod pod    pod pod pod       10.244.<node>.0/24, fd00:10:244:<node>::/64
//! ```
//!
//! Servers and clients are programs that other people wrote (busybox's httpd,
//! dnsmasq, curl, dig), so that the lab does not share our own
//! misunderstandings. Root is needed, and the tools that `cargo xtask setup`
//! installs.
//!
//! Everything is a guard: dropping it ends the processes and removes the
//! namespaces. What a killed process leaves behind, the next lab sweeps.

pub mod apiserver;
pub mod clock;
pub mod lab;
pub mod packets;
pub mod prometheus;
