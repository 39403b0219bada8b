//! The socket path of the command `run`. Where it is not to be had, packets are served
//! all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use tracing::{error, info, warn};

use crate::agent::Agent;
use crate::attach::{SocketPath, SocketPathError, SocketPathMode, pod_cgroups, scope};
use crate::config::OwnSettings;
use crate::host;
use crate::maps::{KernelMaps, LeftOut, Pins, SocketScope};

/// How often the cgroup of a Pod is looked for that is not there yet.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whose sockets are to be served; nobody's where they cannot be told apart.
pub(super) fn wanted(settings: &OwnSettings) -> SocketScope {
    scope(settings.socket_path).unwrap_or_else(|error| {
        if settings.socket_path != SocketPathMode::Off {
            warn!("{:#}", anyhow::Error::from(error));
        }
        SocketScope::default()
    })
}

/// The socket path, as far as it is wanted and possible.
pub(super) struct Sockets {
    path: Option<SocketPath>,
    left_out: LeftOut,
    /// The Pods that want to be left out.
    pods: BTreeSet<Arc<str>>,
    /// How many of their cgroups were found.
    found: usize,
    /// Whether it was told that some were not.
    is_told: bool,
}

impl Sockets {
    /// Attaches the programs.
    pub(super) fn new(
        programs: &mut Ebpf,
        left_out: LeftOut,
        settings: &OwnSettings,
        pins: Option<&Pins>,
    ) -> Self {
        let path = attach(programs, settings, pins);
        if path.is_none()
            && let Some(pins) = pins
            && let Err(error) = SocketPath::detach_left(pins)
        {
            warn!("{error}");
        }
        Self {
            path,
            left_out,
            pods: BTreeSet::new(),
            found: 0,
            is_told: false,
        }
    }

    /// Does what follows from what was programmed.
    pub(super) async fn follow(&mut self, agent: &mut Agent<KernelMaps>) {
        if let Some(pods) = agent.take_left_out_pods() {
            self.pods = pods;
            self.is_told = false;
            self.find_pods();
        }
        if agent.take_backend_ended() {
            self.end_stale(agent.maps_mut()).await;
        }
    }

    /// Waits until the cgroups of Pods are to be looked for again. Safe to cancel.
    pub(super) async fn look_is_due(&self) {
        if self.has_all_pods() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }

    /// Looks for the cgroups of the Pods that want to be left out.
    pub(super) fn find_pods(&mut self) {
        let Some(path) = &self.path else {
            return;
        };
        let found = pod_cgroups(path.cgroup(), &self.pods);
        if found.len() != self.found {
            self.found = found.len();
            info!(
                pods = self.found,
                "the sockets of Pods are left alone, as they wish"
            );
        }
        let cgroups = found.into_values().collect();
        if let Err(error) = self.left_out.set(&cgroups) {
            error!("{:#}", anyhow::Error::from(error));
        }
    }

    fn has_all_pods(&self) -> bool {
        self.path.is_none() || self.found == self.pods.len()
    }

    /// Does now and again what may have been missed.
    pub(super) async fn review(&mut self, agent: &mut Agent<KernelMaps>) {
        if !self.has_all_pods() {
            self.find_pods();
            if !self.has_all_pods() && !std::mem::replace(&mut self.is_told, true) {
                let missing = self.pods.len() - self.found;
                warn!(
                    pods = missing,
                    "Pods want their sockets left alone and have no cgroup that the agent \
                     can see; until then they are served"
                );
            }
        }
        self.end_stale(agent.maps_mut()).await;
    }

    /// Ends the host's UDP sockets that are connected to an endpoint whose life has ended:
    /// they would send to it for ever, for nobody is asked about that any more. The next
    /// thing that their applications do with them fails, and those connect anew.
    ///
    /// A connection that is being made meanwhile may escape; so this is also done now and
    /// again without a cause.
    async fn end_stale(&self, maps: &mut KernelMaps) {
        if self.path.is_none() {
            return;
        }
        let sockets = match host::connected_udp().await {
            Ok(sockets) => sockets,
            Err(error) => return warn!("cannot list the host's UDP sockets: {error}"),
        };
        for socket in sockets {
            if !maps.is_stale_socket(socket.cookie, socket.peer) {
                continue;
            }
            let peer = socket.peer;
            match host::end(socket).await {
                Ok(true) => info!(%peer, "ended a UDP socket of the host, whose endpoint is gone"),
                Ok(false) => {}
                Err(error) => warn!(%peer, "cannot end a UDP socket: {error}"),
            }
        }
    }
}

fn attach(programs: &mut Ebpf, settings: &OwnSettings, pins: Option<&Pins>) -> Option<SocketPath> {
    let mode = settings.socket_path;
    if mode == SocketPathMode::Off {
        info!("sockets are not served; the host's own processes reach no Service");
        return None;
    }
    match SocketPath::attach(programs, settings.cgroup.as_deref(), pins) {
        Ok(path) => {
            info!(whose = %mode, cgroup = %path.cgroup().display(), "sockets are served");
            Some(path)
        }
        Err(error) => {
            without(error);
            None
        }
    }
}

fn without(error: SocketPathError) {
    warn!(
        "sockets are not served: {:#}. Packets are; the host's own processes reach no Service",
        anyhow::Error::from(error)
    );
}
