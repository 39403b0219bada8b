//! Resetting TCP connections to endpoints that are gone, where that is wanted.

use std::time::Instant;

use tokio::time::sleep_until;

use super::sockets::SocketPathController;
use crate::agent::Agent;
use crate::maps::KernelMaps;

/// Returns when there are connections to be reset. Safe to cancel.
pub(super) async fn next(agent: &Agent<KernelMaps>) {
    match agent.next_reset() {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Resets them: the packet path does when it sees their next packet, and the host's sockets
/// are ended.
pub(super) async fn reset(agent: &mut Agent<KernelMaps>, sockets: &mut SocketPathController) {
    if agent.reset_gone(Instant::now()) {
        sockets.destroy_gone(agent.maps_mut()).await;
    }
}
