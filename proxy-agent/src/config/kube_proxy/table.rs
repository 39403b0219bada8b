//! The table of settings: each with its field, type, default, reason, option, and whether
//! it changes at run time.
//!
//! A row is all that there is to write for a new setting. From the tables follow the types
//! ([`Settings`] and what is in it), what a configuration file may hold, the options of the
//! command line, what `/configz` shows, what a changed file changes, and README's table.

use serde_json::Value;

use super::check::Values;
use super::duration::GoDuration;
use super::error::FieldError;
use super::field::{Checked, Effect, Field, Found, Kind};
use super::fields::FIELDS;
use super::form::Wrong;
use super::own::{MapSizes, ProxyAgentSettings};
use super::row::{OptionName, Row};
use super::settings::{LogSettings, Settings};

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// `apiVersion` and `kind` of its document.
    pub(super) document: (&'static str, &'static str),
    /// What it is, and behind an empty line the reason for its default.
    pub(super) doc: &'static [&'static str],
    pub(super) row: Row,
    /// What to do with the value in [`Settings`].
    pub(super) access: Access,
}

/// How a setting's value is read and written.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) kind: fn() -> Kind,
    pub(super) set: fn(&mut Settings, &Checked) -> Result<(), Wrong>,
    pub(super) show: fn(&Settings) -> Value,
    pub(super) copy: fn(&mut Settings, &Settings),
}

/// All settings.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    let tables = [
        Settings::TABLE,
        LogSettings::TABLE,
        ProxyAgentSettings::TABLE,
        MapSizes::TABLE,
    ];
    tables.into_iter().flatten()
}

/// The settings of a document.
pub(super) fn settings_of(
    document: (&'static str, &'static str),
) -> impl Iterator<Item = &'static Setting> {
    settings().filter(move |setting| setting.document == document)
}

/// Puts what a document sets in the place of the defaults.
pub(super) fn take(
    settings: &mut Settings,
    document: (&'static str, &'static str),
    values: &Values,
) -> Result<(), FieldError> {
    let mode = values.text("mode").unwrap_or_default();
    settings_of(document).try_for_each(|setting| setting.take(settings, values, mode))
}

impl Setting {
    /// Takes over its value, if it is set.
    fn take(&self, settings: &mut Settings, values: &Values, mode: &str) -> Result<(), FieldError> {
        let path = self.path_in(mode);
        let Some(Found { place, value, .. }) = values.get(path) else {
            return Ok(());
        };
        if value.is_empty() {
            return Ok(());
        }
        (self.access.set)(settings, value).map_err(|wrong| match wrong {
            Wrong::Value(reason) => FieldError::new(*place, path, reason),
            Wrong::Item(number, reason) => {
                let place = value.place_of(number).unwrap_or(*place);
                FieldError::new(place, &format!("{path}[{number}]"), reason)
            }
        })
    }

    /// The path of its field where kube-proxy is in this mode: some are in a group for each.
    fn path_in(&self, mode: &str) -> &'static str {
        let is_this = |field: &&Field| {
            let of_mode =
                matches!(field.effect, Effect::OfModes(modes, _) if modes.contains(&mode));
            of_mode && field.path.rsplit('.').next() == Some(self.row.name)
        };
        FIELDS
            .iter()
            .find(is_this)
            .map_or(self.row.path, |it| it.path)
    }

    /// Its option, if it has one.
    pub fn option(&self) -> Option<OptionName> {
        self.row.option
    }

    /// The group of fields that it is in; empty where it is in none.
    pub fn group(&self) -> &'static str {
        self.row.path.split_once('.').map_or("", |(group, _)| group)
    }

    /// What it is, and the reason for its default.
    pub fn summary_and_reason(&self) -> (String, String) {
        let join = |lines: &[&str]| {
            let lines: Vec<_> = lines.iter().map(|line| line.trim()).collect();
            lines.join(" ")
        };
        let end = self.doc.iter().position(|line| line.is_empty());
        let (summary, reason) = self.doc.split_at(end.unwrap_or(self.doc.len()));
        (join(summary), join(reason).trim().to_owned())
    }

    /// Its default as a file would have it; empty where there is none.
    pub fn default_text(&self) -> String {
        match (self.access.show)(&Settings::default()) {
            Value::Null => String::new(),
            Value::String(text) => match GoDuration::parse(&text) {
                Some(duration) => duration.to_string(),
                None => text,
            },
            Value::Array(items) => {
                let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
                format!("[{}]", items.join(", "))
            }
            value => value.to_string(),
        }
    }

    /// The names that it may have, each with what it means; none where it is no choice.
    pub fn names(&self) -> &'static [(&'static str, &'static str)] {
        match (self.access.kind)() {
            Kind::Choice(names) => names,
            Kind::Bool => &[("true", ""), ("false", "")],
            _ => &[],
        }
    }

    /// Whether it is true or false.
    pub fn is_switch(&self) -> bool {
        matches!((self.access.kind)(), Kind::Bool)
    }
}
