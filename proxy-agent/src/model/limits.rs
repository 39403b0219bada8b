//! How much of one Service is served, so that no object, however large, takes what the
//! others need. Work and memory for a Service are as its size, never as one of its lists
//! times another.
//!
//! Each is some ten times of what Services are known to have, and no more than a quarter
//! of a map's usual size.

/// Addresses: ClusterIPs, load balancer IPs and external IPs.
pub(super) const ADDRESSES: usize = 1024;

/// Frontends: addresses and NodePorts, times ports.
pub(super) const FRONTENDS: usize = 16_384;

/// Backends of one IP family: endpoints, times ports.
pub(super) const BACKENDS: usize = 65_536;

/// Ranges of sources, times ports.
pub(super) const SOURCE_RANGES: usize = 16_384;

/// Warnings, one for each thing that is refused; then one for all others. Of more an Event
/// would not tell anyway.
pub(super) const WARNINGS: usize = 24;
