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

use tracing::{info, warn};

use crate::agent::Agent;
use crate::host::{Connection, Conntrack};
use crate::maps::{KernelMaps, NetfilterFlows};

/// Hands connections over, around the moment in which the programs are attached for the first
/// time.
pub(super) struct Handover {
    flows: Option<NetfilterFlows>,
    is_done: bool,
    /// Connections that are left to netfilter.
    left: BTreeSet<Connection>,
}

impl Handover {
    /// A handover into these tables; none where an agent has attached programs with them.
    pub(super) fn new(flows: Option<NetfilterFlows>) -> Self {
        Self {
            flows,
            is_done: false,
            left: BTreeSet::new(),
        }
    }

    /// To be called before the programs are attached.
    pub(super) async fn begin(&self, agent: &mut Agent<KernelMaps>) {
        if let Some(flows) = self.flows.as_ref().filter(|_| !self.is_done)
            && let Err(error) = note(flows, agent).await
        {
            // Mostly there is no connection tracking, and so nobody to take over from.
            info!("cannot list netfilter's connections: {error}");
        }
    }

    /// To be called when they are.
    pub(super) async fn end(&mut self, agent: &mut Agent<KernelMaps>) {
        let Some(flows) = self.flows.as_ref().filter(|_| !self.is_done) else {
            return;
        };
        match take(flows, agent).await {
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
) -> io::Result<Vec<(Connection, bool)>> {
    let connections = Conntrack::open()?.translated().await?;
    let open = flows.open()?;
    let noted = connections.into_iter().map(|connection| {
        let backend = agent.backend_of(&connection);
        if backend.is_some() && connection.source.ip() != connection.client.ip() {
            agent
                .maps_mut()
                .expect_replies_to(connection.source.ip())
                .map_err(io::Error::other)?;
        }
        open.note(&connection, backend);
        Ok((connection, backend.is_some()))
    });
    noted.collect()
}

/// Takes over all connections that can be, also those that have begun since they were noted;
/// returns the others.
async fn take(
    flows: &NetfilterFlows,
    agent: &mut Agent<KernelMaps>,
) -> io::Result<BTreeSet<Connection>> {
    let noted = note(flows, agent).await?;
    if noted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let conntrack = Conntrack::open()?;
    let open = flows.open()?;
    let mut left = BTreeSet::new();
    let mut taken = 0_usize;
    for (connection, has_backend) in noted {
        // First the programs: what they send on netfilter does not see.
        if !has_backend || !open.take_over(&connection) {
            left.insert(connection);
            continue;
        }
        if let Err(error) = conntrack.forget(&connection).await {
            warn!(?connection, "netfilter keeps a connection: {error}");
        }
        taken += 1;
    }
    info!(
        taken,
        left = left.len(),
        "connections of netfilter taken over"
    );
    Ok(left)
}

/// Forgets connections that were left to netfilter and that it has forgotten.
async fn forget_gone(flows: &NetfilterFlows, left: &mut BTreeSet<Connection>) -> io::Result<()> {
    let there = Conntrack::open()?.translated().await?;
    let there: BTreeSet<_> = there.iter().map(ends).collect();
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
