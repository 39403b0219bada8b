//! Goes through a document with the table of its fields.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::duration::GoDuration;
use super::error::{FieldError, Place};
use super::field::{Checked, Field, Found, Kind};
use super::tree::{Key, Node, Value};

/// What a document sets. Null sets nothing, as in Kubernetes.
#[derive(Debug, Default)]
pub(super) struct Values {
    by_path: BTreeMap<&'static str, Found>,
}

impl Values {
    /// Those of `document`, which may have `fields`.
    pub(super) fn of(document: &Node, fields: &'static [Field]) -> Result<Self, FieldError> {
        let mut values = Self::default();
        values.take_group("", document, fields)?;
        Ok(values)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Found> {
        self.by_path.values()
    }

    /// Where `path` is set; the start of the file if it is not.
    pub(super) fn place(&self, path: &str) -> Place {
        let start = Place { line: 1, column: 1 };
        self.by_path.get(path).map_or(start, |found| found.place)
    }

    /// The text at `path`; an empty one is none.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        match &self.by_path.get(path)?.value {
            Checked::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// What is at `path`.
    pub(super) fn get(&self, path: &str) -> Option<&Found> {
        self.by_path.get(path)
    }

    fn take_group(
        &mut self,
        group: &str,
        node: &Node,
        fields: &'static [Field],
    ) -> Result<(), FieldError> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => return Ok(()),
            other => {
                let reason = format!("a group of fields is wanted, not {}", other.kind());
                return Err(FieldError::new(node.place, group, reason));
            }
        };
        for (key, node) in entries {
            let path = if group.is_empty() {
                key.name.clone()
            } else {
                format!("{group}.{}", key.name)
            };
            if let Some(field) = fields.iter().find(|field| field.path == path) {
                if let Some(value) = check(field.kind, node, &path)? {
                    let place = node.place;
                    let found = Found {
                        field,
                        place,
                        value,
                    };
                    self.by_path.insert(field.path, found);
                }
            } else if fields.iter().any(|field| is_in(field.path, &path)) {
                self.take_group(&path, node, fields)?;
            } else {
                return Err(unknown(group, key, &path, fields));
            }
        }
        Ok(())
    }
}

fn is_in(path: &str, group: &str) -> bool {
    path.strip_prefix(group)
        .is_some_and(|rest| rest.starts_with('.'))
}

fn unknown(group: &str, key: &Key, path: &str, fields: &[Field]) -> FieldError {
    let mut reason = "there is no such field".to_owned();
    let near = fields.iter().filter_map(|field| {
        let rest = match group {
            "" => field.path,
            group if is_in(field.path, group) => &field.path[group.len() + 1..],
            _ => return None,
        };
        let name = rest.split('.').next()?;
        let distance = distance(&key.name.to_lowercase(), &name.to_lowercase());
        (distance <= 2).then_some((distance, name))
    });
    if let Some((_, name)) = near.min() {
        reason = format!("{reason}; is `{name}` meant?");
    }
    FieldError::new(key.place, path, reason)
}

/// How many letters are to be changed, added or removed to get from one to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

/// What a truth was written as where a switch is wanted: YAML 1.1 takes `on` and `off`
/// without quotes for truths.
fn switch(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// The value of `node` if it is of `kind`; none for null.
pub(super) fn check(kind: Kind, node: &Node, path: &str) -> Result<Option<Checked>, FieldError> {
    let wrong = |reason: String| Err(FieldError::new(node.place, path, reason));
    let unlike = |wanted: &str| wrong(format!("{wanted} is wanted, not {}", node.value.kind()));
    let checked = match (kind, &node.value) {
        (_, Value::Null) => return Ok(None),
        (Kind::Bool, Value::Bool(value)) => Checked::Bool(*value),
        (Kind::Bool, _) => return unlike("true or false"),
        (Kind::Integer(min, max), Value::Integer(value)) if (min..=max).contains(value) => {
            Checked::Integer(*value)
        }
        (Kind::Integer(min, max), _) => {
            return unlike(&format!("a whole number from {min} to {max}"));
        }
        #[expect(clippy::cast_precision_loss, reason = "as a rate it is good enough")]
        (Kind::Number, Value::Integer(value)) => Checked::Number(*value as f64),
        (Kind::Number, Value::Float(value)) => Checked::Number(*value),
        (Kind::Number, _) => return unlike("a number"),
        (Kind::DurationOrNanos, Value::Integer(nanos)) if *nanos >= 0 => {
            Checked::Duration(GoDuration(*nanos))
        }
        (Kind::Duration | Kind::DurationOrNanos, Value::Text(text)) => {
            match GoDuration::parse(text) {
                Some(GoDuration(..0)) => return wrong(format!("`{text}` is below 0")),
                Some(duration) => Checked::Duration(duration),
                None => return unlike("a duration such as `30s` or `1m30s`"),
            }
        }
        (Kind::Duration | Kind::DurationOrNanos, _) => {
            return unlike("a duration with a unit, such as `30s`,");
        }
        (Kind::OneOf(names), Value::Text(text)) if names.contains(&text.as_str()) => {
            Checked::Text(text.clone())
        }
        (Kind::OneOf(names), _) => return unlike(&listed(names)),
        (Kind::Choice(choices), _) => {
            let names = choices.iter().map(|(name, _)| *name);
            let names: Vec<_> = [""].into_iter().chain(names).collect();
            match &node.value {
                Value::Text(text) if names.contains(&text.as_str()) => Checked::Text(text.clone()),
                Value::Bool(value) if names.contains(&switch(*value)) => {
                    Checked::Text(switch(*value).to_owned())
                }
                _ => return unlike(&listed(&names)),
            }
        }
        (Kind::Text | Kind::Quantity, Value::Text(text)) => Checked::Text(text.clone()),
        (Kind::Text, _) => return unlike("a text"),
        (Kind::Texts | Kind::Cidrs, Value::List(items)) => {
            Checked::Texts(check_texts(kind, items, path)?)
        }
        (Kind::Texts | Kind::Cidrs, _) => return unlike("a list of texts"),
        (Kind::Flags, Value::Map(entries)) => {
            for (key, node) in entries {
                check(Kind::Bool, node, &format!("{path}.{}", key.name))?;
            }
            Checked::Other(entries.len())
        }
        (Kind::Flags, _) => return unlike("a group of names with true or false"),
        (Kind::PortRange, Value::Text(text)) if is_port_range(text) => Checked::Text(text.clone()),
        (Kind::PortRange, _) => return unlike("a range of ports such as `300-2000`"),
        (Kind::Version, Value::Text(text)) if is_version(text) => Checked::Text(text.clone()),
        (Kind::Version, _) => return unlike("a version such as `1.33`, with quotation marks,"),
        (Kind::Quantity, Value::Integer(value)) => Checked::Text(value.to_string()),
        (Kind::Quantity, _) => return unlike("a number of bytes such as `64Ki`"),
        (Kind::Verbosities, Value::List(items)) => Checked::Other(items.len()),
        (Kind::Verbosities, _) => return unlike("a list of file patterns with verbosities"),
    };
    Ok(Some(checked))
}

fn check_texts(kind: Kind, items: &[Node], path: &str) -> Result<Vec<(Place, String)>, FieldError> {
    let mut texts = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let wanted = match (kind, &item.value) {
            (Kind::Cidrs, Value::Text(text)) if text.parse::<IpNet>().is_err() => {
                "an address range such as `10.0.0.0/8`"
            }
            (_, Value::Text(text)) => {
                texts.push((item.place, text.clone()));
                continue;
            }
            _ => "a text",
        };
        let reason = format!("{wanted} is wanted, not {}", item.value.kind());
        return Err(FieldError::new(
            item.place,
            &format!("{path}[{number}]"),
            reason,
        ));
    }
    Ok(texts)
}

/// `a`, `b`, or `c`; the empty name goes without saying.
fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .filter(|name| !name.is_empty())
        .map(|name| format!("`{name}`"))
        .collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn is_port_range(text: &str) -> bool {
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let text = text.trim();
    if text.is_empty() || text == "0" {
        return true;
    }
    if let Some((first, last)) = text.split_once('-') {
        return matches!((port(first), port(last)), (Some(first), Some(last)) if first <= last);
    }
    if let Some((first, more)) = text.split_once('+') {
        return port(first).is_some() && port(more).is_some();
    }
    port(text).is_some()
}

fn is_version(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.is_empty()
        || text
            .split_once('.')
            .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
}
