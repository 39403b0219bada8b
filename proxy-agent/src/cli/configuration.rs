//! The settings in force: the configuration file's, and over them the command line's.

use std::collections::BTreeSet;
use std::fs;

use tracing::{info, warn};

use super::options::RunArgs;
use serde_json::Value;

use crate::config::kube_proxy::{IgnoredField, Parsed, configz, diff, in_force};
use crate::config::{ConfigFile, FileError, Settings, Source};

/// The machine's host name (`proc_sys_kernel(5)`).
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// The settings in force.
#[derive(Debug)]
pub(super) struct Configuration {
    args: RunArgs,
    settings: Settings,
    /// As they were at the start: what needs a restart is still so.
    at_start: Settings,
    ignored: Vec<IgnoredField>,
    /// Fields without effect that were named so far.
    named: BTreeSet<&'static str>,
}

impl Configuration {
    /// Reads what the command line names, and begins to watch it.
    pub(super) fn read(args: RunArgs) -> Result<(Self, Option<ConfigFile>), FileError> {
        let (file, parsed) = match &args.config {
            Some(path) => {
                let (file, parsed) = ConfigFile::open(path)?;
                (Some(file), parsed)
            }
            None => (None, Parsed::default()),
        };
        let Parsed {
            mut settings,
            ignored,
        } = parsed;
        args.override_settings(&mut settings);
        let configuration = Self {
            args,
            at_start: settings.clone(),
            settings,
            ignored,
            named: BTreeSet::new(),
        };
        Ok((configuration, file))
    }

    /// The settings.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What `/configz` shows: the settings in force.
    pub(super) fn shown(&self) -> Value {
        let settings = in_force(&self.at_start, &self.settings);
        configz(&self.node_name(), &settings)
    }

    /// Where the objects come from.
    pub(super) fn source(&self) -> Source {
        self.args.source(&self.settings)
    }

    /// The name of this machine's Node: as in kube-proxy the host name in lower case
    /// where none is set.
    pub(super) fn node_name(&self) -> String {
        self.settings.node_name.clone().unwrap_or_else(|| {
            let host = fs::read_to_string(HOST_NAME).unwrap_or_default();
            host.trim().to_lowercase()
        })
    }

    /// Names each field without effect, unless that was done before.
    pub(super) fn name_ignored(&mut self) {
        for IgnoredField { path, line, reason } in &self.ignored {
            if self.named.insert(path) {
                info!(
                    field = path,
                    line, "a field of the configuration has no effect here: {reason}"
                );
            }
        }
    }

    /// Takes in what the file holds now. A file that cannot be used leaves all as it
    /// was. Returns whether there is something to put into effect.
    pub(super) fn take(&mut self, read: Result<Parsed, FileError>) -> bool {
        let Parsed {
            mut settings,
            ignored,
        } = match read {
            Ok(parsed) => parsed,
            Err(error) => {
                warn!("{error}; the settings stay as they are");
                return false;
            }
        };
        self.args.override_settings(&mut settings);
        self.ignored = ignored;
        self.name_ignored();
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
        !changes.hot.is_empty()
    }
}
