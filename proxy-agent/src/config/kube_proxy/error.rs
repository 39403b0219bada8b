//! Why a configuration file cannot be used, and where in it.

use std::fmt;
use std::path::{Path, PathBuf};

/// A place in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The line, from 1.
    pub(super) line: u64,
    /// The column, from 1.
    pub(super) column: u64,
}

/// A mistake in the text, before it is known which file that came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    pub(super) place: Place,
    pub(super) field: String,
    pub(super) reason: String,
}

impl FieldError {
    pub(super) fn new(place: Place, field: &str, reason: impl Into<String>) -> Self {
        Self {
            place,
            field: field.to_owned(),
            reason: reason.into(),
        }
    }

    pub(super) fn in_file(self, file: &Path) -> ConfigError {
        ConfigError {
            file: file.to_owned(),
            line: self.place.line,
            column: self.place.column,
            field: self.field,
            reason: self.reason,
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// The path of the field, such as `iptables.syncPeriod`; empty where the text
    /// as a whole is at fault.
    pub field: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            field,
            reason,
        } = self;
        write!(f, "{}:{line}:{column}: ", file.display())?;
        if !field.is_empty() {
            write!(f, "{field}: ")?;
        }
        f.write_str(reason)
    }
}
