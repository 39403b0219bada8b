//! The settings that come of a configuration file, with their defaults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::address::{check_ranges, endpoint, ip, node_port_addresses};
use super::check::Values;
use super::error::Mistake;
use super::own::OwnSettings;
use crate::model::NodePortAddresses;

/// kube-proxy's ports, which load balancers, probes and scrapers know.
const HEALTH_PORT: u16 = 10_256;
const METRICS_PORT: u16 = 10_249;

/// kube-proxy's period. Here it is no period, since nothing has to be written again
/// for no cause, but the measure of health: who waits for longer than twice this is
/// not healthy.
pub const DEFAULT_SYNC_PERIOD: Duration = Duration::from_secs(30);

/// kube-proxy waits for 1 s, for it writes much anew for each change. Here a change
/// costs what it changes, so that none has to wait.
pub const DEFAULT_MIN_SYNC_PERIOD: Duration = Duration::ZERO;

/// What a configuration file sets, with defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The Node's name, in place of the host's. By default there is none: the
    /// manifests give the name by the environment.
    pub node_name: Option<String>,
    /// The node's primary address. By default that is the Node's `InternalIP`.
    pub bind_address: Option<IpAddr>,
    /// Where `/healthz` and `/livez` answer: by default on all addresses, since load
    /// balancers ask from outside.
    pub health_address: SocketAddr,
    /// Where `/metrics` answers: by default only for this machine, since who may read
    /// it is not asked.
    pub metrics_address: SocketAddr,
    /// Give all outside traffic this node's address. By default it is not, since
    /// backends like to see their clients.
    pub masquerade_all: bool,
    /// A change that waits for twice as long is a sign of bad health.
    pub sync_period: Duration,
    /// The least time between two rounds of changes; with 0 they are applied as they
    /// come.
    pub min_sync_period: Duration,
    /// Which of the node's addresses answer on `NodePorts`.
    pub node_port_addresses: NodePortAddresses,
    /// The kubeconfig file. By default there is none: the Pod's service account is
    /// used.
    pub kubeconfig: Option<PathBuf>,
    /// How much to log, as text or as JSON.
    pub log: LogSettings,
    /// The process's `oom_score_adj`. By default it is left as the kubelet made it:
    /// to lower it takes a capability (`SYS_RESOURCE`) that is needed for nothing else.
    pub oom_score_adj: Option<i16>,
    /// What kube-proxy has no setting for.
    pub own: OwnSettings,
}

/// How to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// How much.
    pub level: LogLevel,
    /// As JSON, a line for each event.
    pub json: bool,
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

impl LogLevel {
    fn of_verbosity(verbosity: i64) -> Self {
        match verbosity {
            ..4 => Self::Info,
            4..6 => Self::Debug,
            _ => Self::Trace,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            node_name: None,
            bind_address: None,
            health_address: (Ipv4Addr::UNSPECIFIED, HEALTH_PORT).into(),
            metrics_address: (Ipv4Addr::LOCALHOST, METRICS_PORT).into(),
            masquerade_all: false,
            sync_period: DEFAULT_SYNC_PERIOD,
            min_sync_period: DEFAULT_MIN_SYNC_PERIOD,
            node_port_addresses: NodePortAddresses::default(),
            kubeconfig: None,
            log: LogSettings::default(),
            oom_score_adj: None,
            own: OwnSettings::default(),
        }
    }
}

/// A mistake at a field that is of the right kind.
pub(super) fn mistake(values: &Values, path: &str, reason: impl Into<String>) -> Mistake {
    Mistake::new(values.place(path), path, reason)
}

impl Settings {
    /// The settings of a `KubeProxyConfiguration`.
    pub(super) fn of(values: &Values) -> Result<Self, Mistake> {
        let mut settings = Self::default();
        settings.set_node(values)?;
        settings.set_listeners(values)?;
        settings.set_periods(values)?;
        settings.masquerade_all = values.flag(match values.text("mode") {
            Some("nftables") => "nftables.masqueradeAll",
            _ => "iptables.masqueradeAll",
        });
        let path = "nodePortAddresses";
        settings.node_port_addresses = node_port_addresses(values.texts(path), path)?;
        check_detect_local(values)?;
        settings.kubeconfig = values
            .text("clientConnection.kubeconfig")
            .map(PathBuf::from);
        settings.log = LogSettings {
            level: LogLevel::of_verbosity(values.integer("logging.verbosity").unwrap_or(0)),
            json: values.text("logging.format") == Some("json"),
        };
        settings.oom_score_adj = values
            .integer("oomScoreAdj")
            .and_then(|score| i16::try_from(score).ok());
        Ok(settings)
    }

    fn set_node(&mut self, values: &Values) -> Result<(), Mistake> {
        let path = "hostnameOverride";
        self.node_name = match values.text(path).map(str::trim) {
            Some("") => return Err(mistake(values, path, "a name of blanks is none")),
            name => name.map(str::to_lowercase),
        };
        Ok(())
    }

    fn set_listeners(&mut self, values: &Values) -> Result<(), Mistake> {
        let path = "bindAddress";
        if let Some(text) = values.text(path) {
            let address =
                ip(text).ok_or_else(|| mistake(values, path, format!("`{text}` is no address")))?;
            // kube-proxy's defaults are of its IP version.
            if address.is_ipv6() {
                self.health_address = (Ipv6Addr::UNSPECIFIED, HEALTH_PORT).into();
                self.metrics_address = (Ipv6Addr::LOCALHOST, METRICS_PORT).into();
            }
            self.bind_address = Some(address).filter(|address| !address.is_unspecified());
        }
        for (path, port, address) in [
            ("healthzBindAddress", HEALTH_PORT, &mut self.health_address),
            (
                "metricsBindAddress",
                METRICS_PORT,
                &mut self.metrics_address,
            ),
        ] {
            if let Some(text) = values.text(path) {
                *address = endpoint(text, port).map_err(|why| mistake(values, path, why))?;
            }
        }
        if self.health_address == self.metrics_address {
            let (path, other) = match values.text("metricsBindAddress") {
                Some(_) => ("metricsBindAddress", "healthzBindAddress"),
                None => ("healthzBindAddress", "metricsBindAddress"),
            };
            let reason = format!("this is {other} too; they need ports of their own");
            return Err(mistake(values, path, reason));
        }
        Ok(())
    }

    fn set_periods(&mut self, values: &Values) -> Result<(), Mistake> {
        let section = values.text("mode").unwrap_or("iptables");
        let sync = format!("{section}.syncPeriod");
        let min_sync = format!("{section}.minSyncPeriod");
        if let Some(period) = values.duration(&sync) {
            self.sync_period = period.to_std();
        }
        if let Some(period) = values.duration(&min_sync) {
            self.min_sync_period = period.to_std();
        }
        if self.min_sync_period > self.sync_period {
            let reason = format!("this is longer than {sync}");
            return Err(mistake(values, &min_sync, reason));
        }
        Ok(())
    }
}

/// Nothing here depends on these fields, but a mistake in them is one all the same.
fn check_detect_local(values: &Values) -> Result<(), Mistake> {
    let needs = |path: &str, mode: &str| {
        let reason = format!("{mode} needs detectLocal.{path}");
        match values.text(&format!("detectLocal.{path}")) {
            Some(_) => Ok(()),
            None => Err(mistake(values, "detectLocalMode", reason)),
        }
    };
    match values.text("detectLocalMode") {
        Some(mode @ "BridgeInterface") => needs("bridgeInterface", mode),
        Some(mode @ "InterfaceNamePrefix") => needs("interfaceNamePrefix", mode),
        Some("NodeCIDR") => Ok(()),
        // kube-proxy's default too.
        _ => match values.text("clusterCIDR") {
            Some(text) => check_ranges(text).map_err(|why| mistake(values, "clusterCIDR", why)),
            None => Ok(()),
        },
    }
}
