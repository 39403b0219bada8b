//! Logs: events on standard error, as text or as JSON.

use std::io::IsTerminal as _;

use clap::Args;
use tracing::Metadata;
use tracing_subscriber::filter::filter_fn;
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

/// Whether an event is no mere repetition: kube's client warns of each watch that ends without
/// the end of its TLS session, as some servers do at each end. What it warns of is an error or an
/// end for the agent too, which then says what follows from it.
fn is_news(event: &Metadata<'_>) -> bool {
    event.target() != "kube_client::client" || *event.level() != tracing::Level::WARN
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
        .with(events.with_filter(filter_fn(is_news)))
        .init();
    if let (Some(error), Some(filter)) = (error, &args.log_level) {
        let name = settings.level.name();
        tracing::warn!("--log-level `{filter}`: {error}; logging `{name}`");
    }
    Level((!is_given).then_some(handle))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_kubes_client_warns_of_is_left_to_the_agent() {
        let written = Written::default();
        let writer = written.clone();
        let events = fmt::layer().with_writer(move || writer.clone());
        let log = tracing_subscriber::registry().with(events.with_filter(filter_fn(is_news)));
        tracing::subscriber::with_default(log, || {
            tracing::warn!(target: "kube_client::client", "eof in poll");
            tracing::error!(target: "kube_client::client", "an error");
            tracing::warn!(target: "kube_client::client::tls", "a bundle");
            tracing::warn!("a warning");
        });
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let said = |part: &str| written.contains(part);
        assert!(!said("eof in poll"), "{written}");
        assert!(said("an error") && said("a bundle") && said("a warning"));
    }
}
