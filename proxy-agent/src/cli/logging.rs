//! Logs: events on standard error, as text or as JSON.

use std::io::IsTerminal as _;

use clap::Args;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogLevel, LogSettings};

/// The heading of its options in the help.
pub(super) const LOGGING: &str = "Logging (to standard error)";

/// How to log.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = LOGGING)]
pub(super) struct LogArgs {
    /// Level, or levels by module, such as `info` or `warn,proxy_agent::source=debug`;
    /// by default `info`.
    #[arg(long, value_name = "FILTER")]
    log_level: Option<String>,
}

/// The level in force, which can be changed unless the command line has set it.
pub(super) struct Level(Option<reload::Handle<EnvFilter, Registry>>);

impl Level {
    /// Logs at `level` from now on.
    pub(super) fn set(&self, level: LogLevel) {
        let Some(filter) = &self.0 else { return };
        if let Err(error) = filter.reload(EnvFilter::new(level.name())) {
            tracing::warn!("cannot change the log level: {error}");
        }
    }
}

/// Starts to log; at the configured level where the filter of the command line makes
/// no sense.
pub(super) fn start(args: &LogArgs, settings: LogSettings) -> Level {
    let given = args.log_level.as_deref().map(EnvFilter::try_new);
    let is_given = matches!(given, Some(Ok(_)));
    let configured = || EnvFilter::new(settings.level.name());
    let (filter, error) = match given {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (configured(), Some(error)),
        None => (configured(), None),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let events = fmt::layer().with_writer(std::io::stderr);
    let events = if settings.json {
        events.json().boxed()
    } else {
        events.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(events)
        .init();
    if let (Some(error), Some(filter)) = (error, &args.log_level) {
        let name = settings.level.name();
        tracing::warn!("--log-level `{filter}`: {error}; logging `{name}`");
    }
    Level((!is_given).then_some(handle))
}
