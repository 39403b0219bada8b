//! The settings in force: the configuration files', and over them the command line's.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::config::kube_proxy::{DocumentOrigin, IgnoredField, Parsed, configz, diff, in_force};
use crate::config::{ConfigFiles, FileError, Override, Settings, with_overrides};

/// The machine's host name (`proc_sys_kernel(5)`).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The settings in force.
pub struct Configuration {
    overrides: Vec<Override>,
    settings: Settings,
    /// As they were at the start: what needs a restart is still so.
    at_start: Settings,
    ignored: Vec<IgnoredField>,
    documents: Vec<DocumentOrigin>,
    /// Fields without effect that were logged so far.
    logged: BTreeSet<&'static str>,
    /// The files, until they are followed.
    files: Option<ConfigFiles>,
    /// What they hold, whenever that has changed.
    reads: Option<mpsc::Receiver<Result<Parsed, FileError>>>,
    configz: watch::Sender<Value>,
}

impl Configuration {
    /// Reads the files, where there are some, and begins to watch them.
    ///
    /// # Errors
    ///
    /// None of them is there, one cannot be read, or has a mistake in it.
    pub fn read(files: &[PathBuf], overrides: Vec<Override>) -> Result<Self, FileError> {
        let (files, parsed) = if files.is_empty() {
            (None, Parsed::default())
        } else {
            let (files, parsed) = ConfigFiles::open(files)?;
            (Some(files), parsed)
        };
        let Parsed {
            settings,
            ignored,
            documents,
        } = parsed;
        let settings = with_overrides(settings, &overrides);
        let configuration = Self {
            overrides,
            at_start: settings.clone(),
            settings,
            ignored,
            documents,
            logged: BTreeSet::new(),
            files,
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

    /// Logs which files the settings are from.
    pub(super) fn log_documents(&self) {
        for DocumentOrigin {
            kind,
            file,
            is_used,
        } in &self.documents
        {
            let file = file.display();
            if *is_used {
                info!(kind, %file, "configuration");
            } else {
                info!(kind, %file, "configuration without effect: a file before has this kind");
            }
        }
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

    /// Begins to follow changes of the files.
    pub(super) fn follow_files(&mut self) {
        self.reads = self.files.take().map(|files| {
            let (sender, reads) = mpsc::channel(1);
            tokio::spawn(files.follow(sender));
            reads
        });
    }

    /// What the files hold, when that has changed. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<Result<Parsed, FileError>> {
        self.reads.as_mut()?.recv().await
    }

    /// Takes over what the files hold now. A file that cannot be used leaves all as it
    /// was. Returns whether there is something to put into effect.
    pub(super) fn update(&mut self, read: Result<Parsed, FileError>) -> bool {
        let Parsed {
            settings,
            ignored,
            documents,
        } = match read {
            Ok(parsed) => parsed,
            Err(error) => {
                warn!("{error}; keeping the current settings");
                return false;
            }
        };
        let settings = with_overrides(settings, &self.overrides);
        if self.documents != documents {
            self.documents = documents;
            self.log_documents();
        }
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
