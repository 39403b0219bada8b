//! The settings in force: the configuration file's, and over them the command line's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::config::kube_proxy::{IgnoredField, Parsed, configz, diff, in_force};
use crate::config::{ConfigFile, FileError, Override, Settings, with_overrides};

/// The machine's host name (`proc_sys_kernel(5)`).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The settings in force.
pub struct Configuration {
    overrides: Vec<Override>,
    settings: Settings,
    /// As they were at the start: what needs a restart is still so.
    at_start: Settings,
    ignored: Vec<IgnoredField>,
    /// Fields without effect that were logged so far.
    logged: BTreeSet<&'static str>,
    /// The file, until it is followed.
    file: Option<ConfigFile>,
    /// What it holds, whenever that has changed.
    reads: Option<mpsc::Receiver<Result<Parsed, FileError>>>,
    configz: watch::Sender<Value>,
}

impl Configuration {
    /// Reads the file, where there is one, and begins to watch it.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or has a mistake in it.
    pub fn read(file: Option<&Path>, overrides: Vec<Override>) -> Result<Self, FileError> {
        let (file, parsed) = match file {
            Some(path) => {
                let (file, parsed) = ConfigFile::open(path)?;
                (Some(file), parsed)
            }
            None => (None, Parsed::default()),
        };
        let Parsed { settings, ignored } = parsed;
        let settings = with_overrides(settings, &overrides);
        let configuration = Self {
            overrides,
            at_start: settings.clone(),
            settings,
            ignored,
            logged: BTreeSet::new(),
            file,
            reads: None,
            configz: watch::Sender::new(Value::Null),
        };
        configuration.show();
        Ok(configuration)
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What `/configz` shows: the settings in force.
    pub(super) fn configz(&self) -> watch::Receiver<Value> {
        self.configz.subscribe()
    }

    /// The name of this machine's Node: as in kube-proxy the host name in lower case
    /// where none is set.
    pub(super) fn node_name(&self) -> String {
        self.settings.node_name.clone().unwrap_or_else(|| {
            let host = fs::read_to_string(HOST_NAME).unwrap_or_default();
            host.trim().to_lowercase()
        })
    }

    /// Logs each field without effect, unless that was done before.
    pub(super) fn log_ignored(&mut self) {
        for IgnoredField { path, line, reason } in &self.ignored {
            if self.logged.insert(path) {
                info!(
                    field = path,
                    line, "configuration field has no effect: {reason}"
                );
            }
        }
    }

    /// Begins to follow changes of the file.
    pub(super) fn follow_file(&mut self) {
        self.reads = self.file.take().map(|file| {
            let (sender, reads) = mpsc::channel(1);
            tokio::spawn(file.follow(sender));
            reads
        });
    }

    /// What the file holds, when that has changed. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Result<Parsed, FileError>> {
        self.reads.as_mut()?.recv().await
    }

    /// Takes over what the file holds now. A file that cannot be used leaves all as it
    /// was. Returns whether there is something to put into effect.
    pub(super) fn update(&mut self, read: Result<Parsed, FileError>) -> bool {
        let Parsed { settings, ignored } = match read {
            Ok(parsed) => parsed,
            Err(error) => {
                warn!("{error}; keeping the current settings");
                return false;
            }
        };
        let settings = with_overrides(settings, &self.overrides);
        self.ignored = ignored;
        self.log_ignored();
        let changes = diff(&self.settings, &settings);
        let unlike_start = diff(&self.at_start, &settings).restart;
        for name in changes.restart {
            if unlike_start.contains(&name) {
                warn!(
                    setting = name,
                    "changed in the configuration file: needs a restart"
                );
            }
        }
        for name in &changes.hot {
            info!(setting = name, "changed in the configuration file");
        }
        self.settings = settings;
        if changes.hot.is_empty() {
            return false;
        }
        self.show();
        true
    }

    fn show(&self) {
        let settings = in_force(&self.at_start, &self.settings);
        self.configz
            .send_replace(configz(&self.node_name(), &settings));
    }
}
