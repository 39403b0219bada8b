//! What the command line sets in the place of the configuration file.

use super::check::check;
use super::error::Place;
use super::field::{Checked, Kind};
use super::form::Wrong;
use super::settings::Settings;
use super::table::Setting;
use super::tree::{Node, Value};

/// What the command line sets in the place of the file; an empty value changes nothing.
#[derive(Clone, Debug)]
pub struct Override {
    setting: &'static Setting,
    value: Option<Checked>,
}

/// These settings, with the command line's in their place.
pub fn with_overrides(mut settings: Settings, overrides: &[Override]) -> Settings {
    for Override { setting, value } in overrides {
        if let Some(value) = value {
            // It was read with success before.
            let _ = (setting.access.set)(&mut settings, value);
        }
    }
    settings
}

impl Setting {
    /// The value of its option.
    ///
    /// # Errors
    ///
    /// The text is no such value.
    pub fn read_option(&'static self, text: &str) -> Result<Override, String> {
        let kind = (self.access.kind)();
        let written = match kind {
            Kind::Bool => text.parse().ok().map(Value::Bool),
            Kind::Integer(..) => text.parse().ok().map(Value::Integer),
            _ => None,
        };
        let node = Node {
            place: Place::default(),
            value: written.unwrap_or_else(|| Value::Text(text.to_owned())),
        };
        let checked = check(kind, &node, self.row.path).map_err(|mistake| mistake.reason)?;
        let value = checked.filter(|value| !value.is_blank());
        if let Some(value) = &value {
            (self.access.set)(&mut Settings::default(), value).map_err(|wrong| match wrong {
                Wrong::Value(reason) | Wrong::Item(_, reason) => reason,
            })?;
        }
        Ok(Override {
            setting: self,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kube_proxy::settings;

    #[test]
    fn a_default_that_is_given_as_an_option_changes_nothing() {
        for setting in settings().filter(|setting| setting.option().is_some()) {
            let given = setting.read_option(&setting.default_text()).unwrap();
            assert_eq!(
                with_overrides(Settings::default(), &[given]),
                Settings::default()
            );
        }
    }

    #[test]
    fn a_wrong_value_of_an_option_is_refused_with_the_reason() {
        let read = |option: &str, text: &str| {
            let setting = settings().find(|it| it.option().is_some_and(|it| it.name == option));
            setting.unwrap().read_option(text).unwrap_err()
        };
        assert_eq!(
            read("map-slots", "15"),
            "a whole number from 16 to 67108864 is wanted, not the number 15"
        );
        assert_eq!(
            read("nat-ports", "2-1"),
            "`2` is no port from 1024 to 65535"
        );
    }
}
