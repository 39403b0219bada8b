//! Takeover from kube-proxy: connections that netfilter translates become flows of the programs, the
//! very way in which netfilter has translated them.
//!
//! Before the programs are attached each is noted in the flow table, so that its packets pass. Once
//! they are, netfilter forgets one after the other, and in the same moment the programs take it.
//! Connections of the host itself, and those to endpoints that no Service has, are left to netfilter;
//! their notes go when netfilter forgets them.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_ebpf::layout::protocol;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::host::{Connection, Conntrack, EntryWriter, TrackedConnection};
use crate::maps::{KernelMaps, NetfilterFlows};

/// How often connections are taken over whose handshakes were not over the time before, and how long
/// that waits. A handshake takes a way to the endpoint and back; one without an answer is not worth
/// more.
const ROUNDS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Hands connections over, around the moment in which the programs are attached for the first
/// time.
pub(super) struct Handover {
    flows: Option<NetfilterFlows>,
    is_done: bool,
    /// Connections that were noted before the programs were attached.
    noted: BTreeSet<Connection>,
    /// Connections that are left to netfilter.
    left: BTreeSet<Connection>,
}

impl Handover {
    /// A handover into these tables; none where an agent has attached programs with them.
    pub(super) fn new(flows: Option<NetfilterFlows>) -> Self {
        Self {
            flows,
            is_done: false,
            noted: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// To be called before the programs are attached.
    pub(super) async fn begin(&mut self, agent: &mut Agent<KernelMaps>) {
        let Some(flows) = self.flows.as_ref().filter(|_| !self.is_done) else {
            return;
        };
        match note(flows, agent).await {
            Ok(noted) => self.noted.extend(noted.iter().map(|(it, _)| it.connection)),
            // Mostly there is no connection tracking, and so nobody to take over from.
            Err(error) => info!("cannot list netfilter's connections: {error}"),
        }
    }

    /// To be called when they are.
    pub(super) async fn end(&mut self, agent: &mut Agent<KernelMaps>) {
        let Some(flows) = self.flows.as_ref().filter(|_| !self.is_done) else {
            return;
        };
        match take(flows, agent, std::mem::take(&mut self.noted)).await {
            Ok(left) => self.left = left,
            Err(error) => info!("cannot take over netfilter's connections: {error}"),
        }
        self.is_done = true;
        self.end_if_none_is_left();
    }

    /// To be called now and then, after that.
    pub(super) async fn review(&mut self) {
        let Some(flows) = self.flows.as_ref().filter(|_| self.is_done) else {
            return;
        };
        if let Err(error) = forget_gone(flows, &mut self.left).await {
            info!("cannot list netfilter's connections: {error}");
        }
        self.end_if_none_is_left();
    }

    fn end_if_none_is_left(&mut self) {
        if self.left.is_empty() {
            self.flows = None;
        }
    }
}

/// Notes the connections that netfilter translates now.
async fn note(
    flows: &NetfilterFlows,
    agent: &mut Agent<KernelMaps>,
) -> io::Result<Vec<(TrackedConnection, bool)>> {
    let connections = Conntrack::open()?.translated().await?;
    let open = flows.open()?;
    let noted = connections.into_iter().map(|tracked| {
        let connection = tracked.connection;
        let backend = agent.backend_of(&connection);
        if backend.is_some() && connection.source.ip() != connection.client.ip() {
            agent
                .maps_mut()
                .expect_replies_to(connection.source.ip())
                .map_err(io::Error::other)?;
        }
        open.note(&connection, backend);
        Ok((tracked, backend.is_some()))
    });
    noted.collect()
}

/// Takes over all connections that can be, also those that have begun since they were noted;
/// returns the others. One whose handshake goes on is taken when that is over; where netfilter has another
/// one of the same client by then, that one.
async fn take(
    flows: &NetfilterFlows,
    agent: &mut Agent<KernelMaps>,
    mut noted: BTreeSet<Connection>,
) -> io::Result<BTreeSet<Connection>> {
    let mut taken = 0;
    let mut left = BTreeSet::new();
    for _ in 0..ROUNDS {
        let now = note(flows, agent).await?;
        left = now.iter().map(|(it, _)| it.connection).collect();
        // What has ended meanwhile would be left to netfilter for as long as its note is there.
        let there: BTreeSet<_> = left.iter().map(ends).collect();
        noted.retain(|connection| !there.contains(&ends(connection)));
        let open = flows.open()?;
        for connection in &noted {
            open.expire(connection);
        }
        let mut netfilter = EntryWriter::open()?;
        let mut is_incomplete = false;
        for (tracked, has_backend) in now {
            let connection = tracked.connection;
            let is_handshake = connection.protocol == protocol::TCP && !connection.is_established;
            let forget = || {
                netfilter.forget(&tracked).unwrap_or_else(|error| {
                    warn!(?connection, "netfilter keeps a connection: {error}");
                    false
                })
            };
            if has_backend && !is_handshake && open.take_over(&connection, forget) {
                left.remove(&connection);
                taken += 1;
            } else {
                is_incomplete |= has_backend;
            }
        }
        if !is_incomplete {
            break;
        }
        noted.clone_from(&left);
        sleep(PAUSE).await;
    }
    if taken != 0 || !left.is_empty() {
        let left = left.len();
        info!(taken, left, "connections of netfilter taken over");
    }
    Ok(left)
}

/// Forgets connections that were left to netfilter and that it has forgotten.
async fn forget_gone(flows: &NetfilterFlows, left: &mut BTreeSet<Connection>) -> io::Result<()> {
    let there = Conntrack::open()?.translated().await?;
    let there: BTreeSet<_> = there.iter().map(|it| ends(&it.connection)).collect();
    let gone: Vec<Connection> = left
        .iter()
        .filter(|connection| !there.contains(&ends(connection)))
        .copied()
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let open = flows.open()?;
    for connection in gone {
        open.expire(&connection);
        left.remove(&connection);
    }
    Ok(())
}

/// What a connection is known by, however it is.
fn ends(connection: &Connection) -> (u8, SocketAddr, SocketAddr) {
    let Connection {
        protocol,
        client,
        frontend,
        ..
    } = connection;
    (*protocol, *client, *frontend)
}
