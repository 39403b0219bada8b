//! What a changed file changes at run time.

use super::settings::Settings;
use super::table::{Setting, settings};

/// The names of settings that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect at once.
    pub hot: Vec<&'static str>,
    /// Those that need a restart.
    pub restart: Vec<&'static str>,
}

/// What is different in `new`.
pub fn diff(old: &Settings, new: &Settings) -> Changes {
    let show = |setting: &Setting, settings| (setting.access.show)(settings);
    let mut changes = Changes::default();
    for setting in settings().filter(|it| show(it, old) != show(it, new)) {
        let names = match setting.row.restart {
            Some(_) => &mut changes.restart,
            None => &mut changes.hot,
        };
        // Settings of a group have one name.
        if !names.contains(&setting.row.name) {
            names.push(setting.row.name);
        }
    }
    changes
}

/// The settings that hold after `new` was read at run time: what needs a restart is as
/// at the start.
pub fn in_force(at_start: &Settings, new: &Settings) -> Settings {
    let mut settings = at_start.clone();
    for setting in super::table::settings().filter(|setting| setting.row.restart.is_none()) {
        (setting.access.copy)(&mut settings, new);
    }
    settings
}
