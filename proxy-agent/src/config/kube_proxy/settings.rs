//! The settings that come of kube-proxy's configuration file, with their defaults and the
//! reasons for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use proxy_ebpf::layout::{Timeouts, ticks};

use super::KUBE_PROXY;
use super::address::{check_ranges, ip};
use super::check::Values;
use super::error::FieldError;
use super::form::{
    Address, Endpoint, LogFormat, Name, NodePorts, OomScore, Path, Period, Switch, Verbosity,
};
use super::own::ProxyAgentSettings;
use super::row::{hot, restart, settings_table};
use super::table;
use crate::model::NodePortAddresses;

/// kube-proxy's ports, which load balancers, probes and scrapers know.
const HEALTH_PORT: u16 = 10_256;
const METRICS_PORT: u16 = 10_249;

/// Any period.
const PERIOD: Period = Period(Duration::ZERO, "");

const LISTENER: &str = "others may hold the new address: better known at a start";

settings_table! {
    /// What a configuration file sets, with defaults for the rest.
    pub struct Settings, |settings| settings, of KUBE_PROXY {
        /// The name of the Node object that stands for this machine.
        ///
        /// The machine's host name; the manifests give the name by the environment.
        node_name: Option<String> = None, Name,
            restart("hostnameOverride", "all that is known is this node's")
                .option("hostname-override", "NAME").alias_and_env("node-name", "NODE_NAME");

        /// The node's primary address.
        ///
        /// The Node's first `InternalIP`, else its first `ExternalIP`.
        bind_address: Option<IpAddr> = None, Address, hot("bindAddress");

        /// Where `/healthz` (for load balancers) and `/livez` (for probes) answer.
        ///
        /// On all addresses, since load balancers ask from outside.
        health_address: SocketAddr = (Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into(),
            Endpoint(HEALTH_PORT),
            restart("healthzBindAddress", LISTENER)
                .option("healthz-bind-address", "ADDRESS:PORT");

        /// Where `/metrics` answers.
        ///
        /// Only for this machine, since who may read it is not asked.
        metrics_address: SocketAddr = (Ipv4Addr::LOCALHOST, METRICS_PORT).into(),
            Endpoint(METRICS_PORT),
            restart("metricsBindAddress", LISTENER)
                .option("metrics-bind-address", "ADDRESS:PORT");

        /// Give all outside traffic this node's address, also where the backend is local and
        /// could see the client's.
        ///
        /// Not so, since backends like to see their clients.
        masquerade_all: bool = false, Switch,
            hot("nftables.masqueradeAll").named("masqueradeAll").option("masquerade-all", "BOOL");

        /// A change that waits for twice as long is a sign of bad health.
        ///
        /// kube-proxy's period. Here it is no period, since nothing has to be written again
        /// for no cause.
        sync_period: Duration = Duration::from_secs(30), PERIOD,
            hot("nftables.syncPeriod").named("syncPeriod");

        /// The least time between two rounds of changes; with 0 they are applied as they
        /// come.
        ///
        /// kube-proxy waits for 1 s, for it writes much anew for each change. Here a change
        /// costs what it changes, so that none has to wait.
        min_sync_period: Duration = Duration::ZERO, PERIOD,
            hot("nftables.minSyncPeriod").named("minSyncPeriod");

        /// Which of the node's addresses answer on NodePorts: ranges, `all`, `localhost` or
        /// `primary`.
        ///
        /// Primary addresses, as in kube-proxy's mode nftables: on all of them NodePorts
        /// would also be open on networks that were not meant to see them. A file of another
        /// mode (an empty or missing one is iptables) that does not set it has all, as with
        /// kube-proxy.
        node_port_addresses: NodePortAddresses = NodePortAddresses::default(), NodePorts,
            hot("nodePortAddresses");

        /// How long a TCP connection without packets is remembered; 0 is the default.
        ///
        /// kube-proxy's.
        tcp_established_timeout: Duration = Duration::from_hours(24), PERIOD,
            hot("conntrack.tcpEstablishedTimeout").named("tcpEstablishedTimeout");

        /// How long a TCP connection of which one side is closed is remembered without
        /// packets; 0 is the default.
        ///
        /// kube-proxy's: the other side may go on for long.
        tcp_close_wait_timeout: Duration = Duration::from_hours(1), PERIOD,
            hot("conntrack.tcpCloseWaitTimeout").named("tcpCloseWaitTimeout");

        /// How long one datagram of UDP is remembered; 0 is 60 s.
        ///
        /// Twice netfilter's, so that no flow is forgotten that the node's own tracking still
        /// knows.
        udp_timeout: Duration = Duration::ZERO, PERIOD,
            hot("conntrack.udpTimeout").named("udpTimeout");

        /// How long a flow of UDP that goes on is remembered; 0 is 240 s.
        ///
        /// Twice netfilter's.
        udp_stream_timeout: Duration = Duration::ZERO, PERIOD,
            hot("conntrack.udpStreamTimeout").named("udpStreamTimeout");

        /// A kubeconfig file, for `--source kube`.
        ///
        /// None: the Pod's service account is used.
        kubeconfig: Option<PathBuf> = None, Path(Some("")),
            restart("clientConnection.kubeconfig", "the source is started with it")
                .option("kubeconfig", "FILE");

        /// The process's `oom_score_adj`.
        ///
        /// As the kubelet made it: to lower it takes a capability (`SYS_RESOURCE`) that is
        /// needed for nothing else.
        oom_score_adj: Option<i16> = None, OomScore, hot("oomScoreAdj");
    }

    /// How much to log, as text or as JSON.
    log: LogSettings = LogSettings::default();
    /// What kube-proxy has no setting for.
    own: ProxyAgentSettings = ProxyAgentSettings::default();
}

settings_table! {
    /// How to log.
    #[derive(Copy)]
    pub struct LogSettings, |settings| settings.log, of KUBE_PROXY {
        /// How much to log: up to 3 as an operator wants it, steps with 4 and 5, everything
        /// from 6 on.
        ///
        /// kube-proxy's; most clusters use 2.
        level: LogLevel = LogLevel::Info, Verbosity, hot("logging.verbosity");

        /// Log text for people, or one JSON object a line.
        ///
        /// For people.
        json: bool = false, LogFormat,
            restart("logging.format", "the log is set up at the start")
                .option("log-format", "FORMAT");
    }
}

/// How much to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// What an operator wants to know: kube-proxy's verbosity up to 3, of which most
    /// clusters use 2. The default.
    #[default]
    Info,
    /// Steps, with verbosity 4 and 5.
    Debug,
    /// Everything, from verbosity 6 on.
    Trace,
}

impl Settings {
    /// How long a change may wait: as in kube-proxy, twice the period in which it goes through
    /// everything.
    pub fn health_timeout(&self) -> Duration {
        self.sync_period.saturating_mul(2)
    }

    /// How long flows are remembered.
    pub fn timeouts(&self) -> Timeouts {
        let ticks = |configured: Duration, default| {
            let seconds = configured.as_secs() + u64::from(configured.subsec_nanos() > 0);
            match u32::try_from(seconds) {
                Ok(0) => default,
                Ok(seconds) => ticks::from_seconds(seconds),
                Err(_) => ticks::from_seconds(u32::MAX),
            }
        };
        let default = Timeouts::DEFAULT;
        Timeouts {
            tcp_established: ticks(self.tcp_established_timeout, default.tcp_established),
            tcp_close_wait: ticks(self.tcp_close_wait_timeout, default.tcp_close_wait),
            udp: ticks(self.udp_timeout, default.udp),
            udp_stream: ticks(self.udp_stream_timeout, default.udp_stream),
        }
    }
}

impl LogLevel {
    pub(super) fn of_verbosity(verbosity: i64) -> Self {
        match verbosity {
            ..4 => Self::Info,
            4..6 => Self::Debug,
            _ => Self::Trace,
        }
    }

    /// The least verbosity of this level.
    pub(super) fn verbosity(self) -> u8 {
        match self {
            Self::Info => 0,
            Self::Debug => 4,
            Self::Trace => 6,
        }
    }

    /// Its name in a filter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A mistake at a field that is of the right kind.
pub(super) fn field_error(values: &Values, path: &str, reason: impl Into<String>) -> FieldError {
    FieldError::new(values.place(path), path, reason)
}

impl Settings {
    /// Puts what the kube-proxy's document sets in the place of the defaults.
    pub(super) fn take(&mut self, values: &Values) -> Result<(), FieldError> {
        if values
            .text("bindAddress")
            .and_then(ip)
            .is_some_and(|address| address.is_ipv6())
        {
            // kube-proxy's defaults are of its IP version.
            self.health_address = (Ipv6Addr::UNSPECIFIED, HEALTH_PORT).into();
            self.metrics_address = (Ipv6Addr::LOCALHOST, METRICS_PORT).into();
        }
        if values.text("mode") != Some("nftables") {
            // kube-proxy's default in its other modes: what has worked goes on.
            self.node_port_addresses = NodePortAddresses::all();
        }
        table::take(self, KUBE_PROXY, values)?;
        self.check_listeners(values)?;
        self.check_periods(values)?;
        check_detect_local(values)
    }

    fn check_listeners(&self, values: &Values) -> Result<(), FieldError> {
        if self.health_address != self.metrics_address {
            return Ok(());
        }
        let (path, other) = match values.text("metricsBindAddress") {
            Some(_) => ("metricsBindAddress", "healthzBindAddress"),
            None => ("healthzBindAddress", "metricsBindAddress"),
        };
        let reason = format!("this is {other} too; they need ports of their own");
        Err(field_error(values, path, reason))
    }

    fn check_periods(&self, values: &Values) -> Result<(), FieldError> {
        if self.min_sync_period <= self.sync_period {
            return Ok(());
        }
        let section = values.text("mode").unwrap_or("iptables");
        let reason = format!("this is longer than {section}.syncPeriod");
        Err(field_error(
            values,
            &format!("{section}.minSyncPeriod"),
            reason,
        ))
    }
}

/// Nothing here depends on these fields, but a mistake in them is one all the same.
fn check_detect_local(values: &Values) -> Result<(), FieldError> {
    let needs = |path: &str, mode: &str| {
        let reason = format!("{mode} needs detectLocal.{path}");
        match values.text(&format!("detectLocal.{path}")) {
            Some(_) => Ok(()),
            None => Err(field_error(values, "detectLocalMode", reason)),
        }
    };
    match values.text("detectLocalMode") {
        Some(mode @ "BridgeInterface") => needs("bridgeInterface", mode),
        Some(mode @ "InterfaceNamePrefix") => needs("interfaceNamePrefix", mode),
        Some("NodeCIDR") => Ok(()),
        // kube-proxy's default too.
        _ => match values.text("clusterCIDR") {
            Some(text) => check_ranges(text).map_err(|why| field_error(values, "clusterCIDR", why)),
            None => Ok(()),
        },
    }
}
