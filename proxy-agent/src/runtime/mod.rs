//! The agent at work: one loop on one thread, and what it drives.
//!
//! | file | what it drives |
//! |---|---|
//! | `signals` | SIGTERM and SIGINT, which end it |
//! | `objects` | the source of objects, and changes of them |
//! | `reports` | requests for a status report, from HTTP handlers |
//! | `grace_period` | grace periods, after which elements of maps are used again |
//! | `pace` | rounds of programming |
//! | `configuration` | the settings in force, and changes of the configuration file |
//! | `interfaces` | the node's devices, and the programs attached to them |
//! | `sockets` | the programs at cgroups, and sockets to be ended |
//! | `liveness` | endpoints that do not answer, which new connections avoid |
//! | `resets` | TCP connections to endpoints that are gone |
//! | `notifiers` | Events, and health checks for load balancers |
//!
//! Each has a `next`, which returns when there is something to do and is safe to cancel,
//! and a method that does it. `start` makes all of them; `pinned_state` and `handover`
//! take over from the proxy that served before, and `succession` gives over to the next.

mod configuration;
mod give_back;
mod grace_period;
mod handover;
mod interfaces;
mod liveness;
mod loading;
mod notifiers;
mod objects;
mod pace;
mod pinned_state;
mod process;
mod reports;
mod resets;
mod signals;
mod sockets;
mod start;
mod succession;
mod sweep;
mod traffic;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::time::Interval;

pub use configuration::Configuration;
pub use give_back::{GiveBackError, give_back};
pub(crate) use signals::Signals;

use crate::agent::Agent;
use crate::attach::ReconcileScope;
use crate::config::kube_proxy::Parsed;
use crate::config::{FileError, LogLevel, Source};
use crate::host::HostPorts;
use crate::maps::KernelMaps;
use crate::model::object::Unanswered;

use grace_period::GracePeriod;
use interfaces::Interfaces;
use liveness::LivenessWatch;
use notifiers::Notifiers;
use objects::{Changes, SourceTask};
use pace::SyncPacer;
use reports::{Attachments, Reports};
use sockets::SocketPathController;
use start::HealthServer;
use succession::Predecessor;

/// Sets the level of the log.
pub type SetLogLevel = Box<dyn Fn(LogLevel)>;

/// Serves until a signal comes.
///
/// # Errors
///
/// It cannot start, or the source of objects ended.
pub fn run(configuration: Configuration, source: Source, set_log_level: SetLogLevel) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(async {
            match start::start(configuration, source, set_log_level).await? {
                Some(runtime) => Box::pin(runtime.run_until_signal()).await,
                None => Ok(()),
            }
        })
}

/// The agent, and what the loop drives.
struct Runtime {
    agent: Agent<KernelMaps>,
    signals: Signals,
    source: SourceTask,
    reports: Reports,
    /// Tells servers that the next agent answers.
    succeeded: watch::Sender<bool>,
    grace: GracePeriod,
    pace: SyncPacer,
    changes: Changes,
    configuration: Configuration,
    set_log_level: SetLogLevel,
    interfaces: Interfaces,
    host_ports: watch::Receiver<HostPorts>,
    sockets: SocketPathController,
    liveness: LivenessWatch,
    notifiers: Notifiers,
    /// What is to be answered once the agent is programmed.
    health: Option<HealthServer>,
    review: Interval,
    audit: Interval,
}

impl Runtime {
    async fn run_until_signal(mut self) -> Result<()> {
        self.interfaces
            .reconcile(&mut self.agent, ReconcileScope::All)
            .await;
        loop {
            self.grace.begin(&mut self.agent);
            self.notifiers.send_events(&mut self.agent);
            tokio::select! {
                // What is quick and must not starve comes first: under a flood of changes
                // probes are answered, and slots become free again. Objects come before
                // devices, which are of no use without them.
                biased;
                () = self.signals.next() => break,
                ended = self.source.next() => return ended.context("the source of objects ended"),
                Some(query) = self.reports.next() => {
                    let attachments = Attachments::of(&self.interfaces, &self.sockets);
                    self.reports.answer(query, &mut self.agent, &attachments);
                }
                retired = self.grace.next() => self.agent.reclaim(retired),
                () = self.pace.next() => self.program().await,
                Some(batch) = self.changes.next() => {
                    self.changes.apply(batch, &mut self.agent);
                    self.pace.request();
                }
                Some(read) = self.configuration.next() => self.configure(read),
                () = self.interfaces.next() => self.reconcile(ReconcileScope::Changed).await,
                Ok(()) = self.host_ports.changed() => self.reserve_host_ports(),
                () = resets::next(&self.agent) => {
                    resets::reset(&mut self.agent, &mut self.sockets).await;
                }
                () = self.sockets.next() => self.sockets.find_pods(),
                () = self.liveness.next() => self.review_liveness(),
                _ = self.review.tick() => self.review().await,
                _ = self.audit.tick() => {
                    self.agent.audit();
                }
            }
        }
        Box::pin(self.end()).await;
        Ok(())
    }

    /// Leaves everything to the next agent.
    async fn end(self) {
        let Self {
            agent,
            signals,
            source,
            reports,
            succeeded,
            configuration,
            interfaces,
            sockets,
            // Answers health checks until it is dropped.
            notifiers: _notifiers,
            ..
        } = self;
        drop(source);
        let attachments = Attachments::of(&interfaces, &sockets);
        interfaces.stop();
        if let Some(bpffs) = &configuration.settings().own.bpffs {
            let it = Predecessor {
                agent,
                reports,
                attachments,
                signals,
                succeeded,
            };
            Box::pin(it.answer_until_succeeded(bpffs)).await;
        }
    }

    /// One round of programming, and what follows from it.
    async fn program(&mut self) {
        self.pace.done(self.agent.program());
        let avoids = self.configuration.settings().own.unanswered == Unanswered::Avoid;
        self.liveness
            .set_wanted(avoids || self.agent.plan_and_maps().0.has_avoiding());
        self.sockets
            .follow(&mut self.agent, self.interfaces.attacher_mut())
            .await;
        if self.agent.take_node_change() {
            self.interfaces
                .reconcile(&mut self.agent, ReconcileScope::All)
                .await;
            // What was found is programmed, or known to be there, without waiting for a review.
            self.pace.request();
        }
        self.notifiers.update_health_checks(&mut self.agent).await;
        if let Some(health) = self.health.take_if(|_| self.agent.is_programmed()) {
            health.start();
        }
    }

    /// Puts into effect what can change at run time.
    fn configure(&mut self, read: Result<Parsed, FileError>) {
        if self.configuration.update(read) {
            let settings = self.configuration.settings();
            (self.set_log_level)(settings.log.level);
            process::set_oom_score_adj(settings.oom_score_adj);
            self.pace.set_period(settings.min_sync_period);
            self.agent.configure(settings);
            self.pace.request();
        }
    }

    fn review_liveness(&mut self) {
        let mode = self.configuration.settings().own.unanswered;
        self.liveness.review(&mut self.agent, mode);
    }

    /// Brings the devices up to date, and then the maps: addresses may be others.
    async fn reconcile(&mut self, look: ReconcileScope) {
        self.interfaces.reconcile(&mut self.agent, look).await;
        self.pace.request();
    }

    fn reserve_host_ports(&mut self) {
        let ports = self.host_ports.borrow_and_update().clone();
        self.agent.set_host_ports(ports);
        self.pace.request();
    }

    /// Retries what failed, and looks at everything: a notification can be lost.
    async fn review(&mut self) {
        self.agent.retry();
        self.agent.log_summary();
        self.notifiers.retry().await;
        self.reconcile(ReconcileScope::All).await;
        self.sockets
            .review(&mut self.agent, self.interfaces.attacher_mut())
            .await;
    }
}
