//! The socket path. Where it is not to be had, packets are served all the same.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::agent::Agent;
use crate::attach::{Attacher, SocketPath, pod_cgroups, scope};
use crate::config::{ProxyAgentSettings, SocketPathMode};
use crate::host::{self, ConnectedSocket};
use crate::maps::{BackendState, KernelMaps, OptOutCgroups, SocketScope};
use crate::status::SocketPathReport;

/// How often the cgroup of a Pod is looked for that is not there yet.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whose sockets are to be served; nobody's where the kernel cannot distinguish them: then
/// nothing is attached either, which is logged.
pub(super) fn scope_of(settings: &ProxyAgentSettings) -> SocketScope {
    scope(settings.socket_path).unwrap_or_default()
}

/// The socket path, as far as it is wanted and possible.
pub(super) struct SocketPathController {
    /// What to attach once the first state is programmed. Until then the previous agent's
    /// programs stay attached and keep serving.
    wanted: Option<Wanted>,
    /// What could not be attached, and is retried.
    pending: Option<Wanted>,
    path: Option<SocketPath>,
    report: SocketPathReport,
    left_out: OptOutCgroups,
    /// The Pods that want to be left out.
    pods: BTreeSet<Arc<str>>,
    /// How many of their cgroups were found.
    found: usize,
    /// Whether it was logged that some were not.
    is_logged: bool,
    /// When their cgroups are looked for again.
    next_look: Instant,
    /// Whether a connection was perhaps being made when TCP sockets were last ended.
    may_have_missed: bool,
}

/// Whose sockets are to be served, and below which cgroup.
struct Wanted {
    mode: SocketPathMode,
    cgroup: Option<PathBuf>,
    /// The last reason why it cannot be had.
    reason: Option<String>,
}

impl SocketPathController {
    /// Nothing is attached yet.
    pub(super) fn new(left_out: OptOutCgroups, settings: &ProxyAgentSettings) -> Self {
        Self {
            wanted: Some(Wanted {
                mode: settings.socket_path,
                cgroup: settings.cgroup.clone(),
                reason: None,
            }),
            pending: None,
            path: None,
            report: SocketPathReport {
                cgroup: None,
                mode: settings.socket_path.name(),
                why: Some("it waits for the first state".to_owned()),
            },
            left_out,
            pods: BTreeSet::new(),
            found: 0,
            is_logged: false,
            next_look: Instant::now(),
            may_have_missed: false,
        }
    }

    /// Does what follows from what was programmed. To be called before the programs of
    /// devices are attached, behind which nothing of an agent's before is looked at.
    pub(super) async fn follow(&mut self, agent: &mut Agent<KernelMaps>, attacher: &mut Attacher) {
        if let Some(pods) = agent.take_opted_out_pods() {
            self.pods = pods;
            self.is_logged = false;
            self.find_pods();
        }
        if agent.is_programmed()
            && let Some(wanted) = self.wanted.take()
        {
            self.attach(wanted, agent, attacher);
        }
        if agent.take_backend_ended() {
            self.destroy_stale(agent.maps_mut()).await;
        }
    }

    /// Attaches the programs. Where they are not wanted, or cannot be had, those of an agent
    /// before are detached.
    fn attach(
        &mut self,
        mut wanted: Wanted,
        agent: &mut Agent<KernelMaps>,
        attacher: &mut Attacher,
    ) {
        if wanted.mode == SocketPathMode::Off {
            self.report.why = Some("the setting socketPath".to_owned());
            info!(
                "socket path is off; the host reaches Services only where its packets leave by an uplink"
            );
        } else {
            match attacher.attach_to_sockets(wanted.cgroup.as_deref()) {
                Ok(path) => {
                    let cgroup = path.cgroup().display();
                    info!(whose = wanted.mode.name(), %cgroup, "socket path attached");
                    self.report.cgroup = Some(path.cgroup().to_owned());
                    self.report.why = None;
                    self.path = Some(path);
                    return self.find_pods();
                }
                Err(error) => {
                    let is_retryable = error.is_retryable();
                    let reason = format!("{:#}", anyhow::Error::from(error));
                    self.report.why = Some(reason.clone());
                    wanted.report(reason, agent);
                    self.pending = is_retryable.then_some(wanted);
                }
            }
        }
        if let Err(error) = attacher.detach_from_sockets() {
            warn!("{error}");
        }
    }

    /// How sockets are served.
    pub(super) fn report(&self) -> SocketPathReport {
        self.report.clone()
    }

    /// Returns when the cgroups of Pods are to be looked for again. Safe to cancel.
    pub(super) async fn next(&self) {
        if self.has_all_pods() {
            std::future::pending::<()>().await;
        }
        sleep_until(self.next_look).await;
    }

    /// Looks for the cgroups of the Pods that want to be left out.
    pub(super) fn find_pods(&mut self) {
        self.next_look = Instant::now() + LOOK_INTERVAL;
        let Some(path) = &self.path else {
            return;
        };
        let found = pod_cgroups(path.cgroup(), &self.pods);
        if found.len() != self.found {
            self.found = found.len();
            info!(pods = self.found, "Pods opted out of the socket path");
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
    pub(super) async fn review(&mut self, agent: &mut Agent<KernelMaps>, attacher: &mut Attacher) {
        if let Some(wanted) = self.pending.take() {
            self.attach(wanted, agent, attacher);
        }
        if let Some(path) = &mut self.path
            && let Err(error) = attacher.keep_socket_pins(path)
        {
            error!("{:#}", anyhow::Error::from(error));
        }
        if !self.has_all_pods() {
            self.find_pods();
            if !self.has_all_pods() && !std::mem::replace(&mut self.is_logged, true) {
                let missing = self.pods.len() - self.found;
                warn!(
                    pods = missing,
                    "cannot find the cgroups of Pods that opted out of the socket path; it \
                     serves them until then"
                );
            }
        }
        self.destroy_stale(agent.maps_mut()).await;
        if self.may_have_missed {
            self.destroy_gone(agent.maps_mut()).await;
            self.may_have_missed = false;
        }
    }

    /// Ends the host's UDP sockets that are connected to an endpoint whose life has ended:
    /// they would send to it for ever, for nobody is asked about that any more. The next
    /// thing that their applications do with them fails, and those connect anew.
    ///
    /// A connection that is being made meanwhile may escape; so this is also done now and
    /// again without a cause.
    async fn destroy_stale(&self, maps: &mut KernelMaps) {
        if self.path.is_some() {
            let is_stale = |it| matches!(it, BackendState::Removed | BackendState::ResetDue);
            destroy_where(is_stale, host::connected_udp().await, maps).await;
        }
    }

    /// Ends the host's TCP connections to endpoints that are gone.
    pub(super) async fn destroy_gone(&mut self, maps: &mut KernelMaps) {
        if self.path.is_some() {
            self.may_have_missed = true;
            destroy_where(
                |it| it == BackendState::ResetDue,
                host::connected_tcp().await,
                maps,
            )
            .await;
        }
    }
}

/// Ends those of the host's sockets whose connection was translated to an endpoint in such
/// a state. Who has connected to an endpoint by its own address is left alone.
async fn destroy_where(
    is_to_end: impl Fn(BackendState) -> bool,
    sockets: io::Result<Vec<ConnectedSocket>>,
    maps: &mut KernelMaps,
) {
    let sockets = match sockets {
        Ok(sockets) => sockets,
        Err(error) => return warn!("cannot list the host's sockets: {error}"),
    };
    for socket in sockets {
        let peer = socket.peer;
        if !maps
            .backend_state(socket.cookie, peer)
            .is_some_and(&is_to_end)
        {
            continue;
        }
        match host::destroy(socket).await {
            Ok(true) => info!(%peer, "destroyed a host socket, its endpoint was removed"),
            Ok(false) => {}
            Err(error) => warn!(%peer, "cannot destroy a socket: {error}"),
        }
    }
}

impl Wanted {
    /// Logs and reports why it cannot be had, once for each reason.
    fn report(&mut self, reason: String, agent: &mut Agent<KernelMaps>) {
        if self.reason.as_ref() != Some(&reason) {
            warn!(
                "cannot attach the socket path: {reason}. Pods are served by the packet path; \
                 the host reaches Services only where its packets leave by an uplink"
            );
            agent.report_no_socket_path(&reason);
        }
        self.reason = Some(reason);
    }
}
