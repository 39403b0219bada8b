//! Forms of values: how a setting is written in a file, and read from there.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::address::{endpoint, ip, node_port_addresses, range};
use super::field::{Checked, Kind};
use super::settings::LogLevel;
use crate::choice::Choice;
use crate::config::{NO_BPFFS, PortRange};
use crate::model::NodePortAddresses;

/// A form of values of a type.
pub(super) trait Form<T> {
    /// What a field holds that is of this form.
    fn kind(&self) -> Kind;

    /// The value of a field, which is of this kind and not empty.
    fn read(&self, value: &Checked) -> Result<T, Wrong>;

    /// The value as `/configz` shows it.
    fn show(&self, value: &T) -> Value;
}

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The value itself.
    Value(String),
    /// The item of a list with this number.
    Item(usize, String),
}

/// A value that is of another kind, which [`super::check`] does not let through.
fn other_kind() -> Wrong {
    Wrong::Value("is of another kind".to_owned())
}

fn text(value: &Checked) -> Result<&str, Wrong> {
    match value {
        Checked::Text(text) => Ok(text),
        _ => Err(other_kind()),
    }
}

fn integer<T: TryFrom<i64>>(value: &Checked) -> Result<T, Wrong> {
    match value {
        Checked::Integer(value) => T::try_from(*value).map_err(|_| other_kind()),
        _ => Err(other_kind()),
    }
}

fn duration(value: &Checked) -> Result<Duration, Wrong> {
    match value {
        Checked::Duration(value) => Ok(value.to_std()),
        _ => Err(other_kind()),
    }
}

/// The text of a value, or an empty one.
fn text_or_empty(value: Option<impl Display>) -> Value {
    value
        .map(|value| value.to_string())
        .unwrap_or_default()
        .into()
}

/// True or false.
pub(super) struct Switch;

impl Form<bool> for Switch {
    fn kind(&self) -> Kind {
        Kind::Bool
    }

    fn read(&self, value: &Checked) -> Result<bool, Wrong> {
        match value {
            Checked::Bool(value) => Ok(*value),
            _ => Err(other_kind()),
        }
    }

    fn show(&self, value: &bool) -> Value {
        (*value).into()
    }
}

/// A name, in lower case.
pub(super) struct Name;

impl Form<Option<String>> for Name {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn read(&self, value: &Checked) -> Result<Option<String>, Wrong> {
        match text(value)?.trim() {
            "" => Err(Wrong::Value("a name of blanks is none".to_owned())),
            name => Ok(Some(name.to_lowercase())),
        }
    }

    fn show(&self, value: &Option<String>) -> Value {
        text_or_empty(value.as_ref())
    }
}

/// An address; an unspecified one is none.
pub(super) struct Address;

impl Form<Option<IpAddr>> for Address {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn read(&self, value: &Checked) -> Result<Option<IpAddr>, Wrong> {
        let text = text(value)?;
        let address = ip(text).ok_or_else(|| Wrong::Value(format!("`{text}` is no address")))?;
        Ok(Some(address).filter(|address| !address.is_unspecified()))
    }

    fn show(&self, value: &Option<IpAddr>) -> Value {
        text_or_empty(value.as_ref())
    }
}

/// An address with a port, which is this one where there is none.
pub(super) struct Endpoint(pub(super) u16);

impl Form<SocketAddr> for Endpoint {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn read(&self, value: &Checked) -> Result<SocketAddr, Wrong> {
        endpoint(text(value)?, self.0).map_err(Wrong::Value)
    }

    fn show(&self, value: &SocketAddr) -> Value {
        value.to_string().into()
    }
}

/// Ranges of a node's addresses.
pub(super) struct NodePorts;

impl Form<NodePortAddresses> for NodePorts {
    fn kind(&self) -> Kind {
        Kind::Texts
    }

    fn read(&self, value: &Checked) -> Result<NodePortAddresses, Wrong> {
        match value {
            Checked::Texts(texts) => node_port_addresses(texts.iter().map(|(_, text)| &**text)),
            _ => Err(other_kind()),
        }
    }

    fn show(&self, value: &NodePortAddresses) -> Value {
        let primary = value.primary.then(|| "primary".to_owned());
        let v4 = value.v4.iter().map(ToString::to_string);
        let v6 = value.v6.iter().map(ToString::to_string);
        primary.into_iter().chain(v4).chain(v6).collect()
    }
}

/// Address ranges.
pub(super) struct Ranges;

impl Form<Vec<IpNet>> for Ranges {
    fn kind(&self) -> Kind {
        Kind::Texts
    }

    fn read(&self, value: &Checked) -> Result<Vec<IpNet>, Wrong> {
        let Checked::Texts(texts) = value else {
            return Err(other_kind());
        };
        let net = |(number, (_, text)): (usize, &(_, String))| {
            range(text).ok_or_else(|| {
                let reason = format!("`{text}` is no address range such as `192.0.2.0/24`");
                Wrong::Item(number, reason)
            })
        };
        texts.iter().enumerate().map(net).collect()
    }

    fn show(&self, value: &Vec<IpNet>) -> Value {
        value.iter().map(ToString::to_string).collect()
    }
}

/// A duration, not shorter than this one for this reason.
pub(super) struct Period(pub(super) Duration, pub(super) &'static str);

impl Form<Duration> for Period {
    fn kind(&self) -> Kind {
        Kind::Duration
    }

    fn read(&self, value: &Checked) -> Result<Duration, Wrong> {
        let Self(shortest, reason) = self;
        let period = duration(value)?;
        if period < *shortest {
            return Err(Wrong::Value((*reason).to_owned()));
        }
        Ok(period)
    }

    fn show(&self, value: &Duration) -> Value {
        format!("{}ns", value.as_nanos()).into()
    }
}

impl Form<Option<Duration>> for Period {
    fn kind(&self) -> Kind {
        Kind::Duration
    }

    fn read(&self, value: &Checked) -> Result<Option<Duration>, Wrong> {
        self.read(value).map(Some)
    }

    fn show(&self, value: &Option<Duration>) -> Value {
        self.show(&value.unwrap_or_default())
    }
}

/// A path, which is shown so where there is none.
pub(super) struct Path(pub(super) Option<&'static str>);

impl Form<Option<PathBuf>> for Path {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn read(&self, value: &Checked) -> Result<Option<PathBuf>, Wrong> {
        Ok(Some(PathBuf::from(text(value)?)))
    }

    fn show(&self, value: &Option<PathBuf>) -> Value {
        match value {
            Some(path) => path.display().to_string().into(),
            None => self.0.into(),
        }
    }
}

/// A path, or the word for none.
pub(super) struct PathOrNone;

impl Form<Option<PathBuf>> for PathOrNone {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn read(&self, value: &Checked) -> Result<Option<PathBuf>, Wrong> {
        let text = text(value)?;
        Ok((text != NO_BPFFS).then(|| PathBuf::from(text)))
    }

    fn show(&self, value: &Option<PathBuf>) -> Value {
        Path(Some(NO_BPFFS)).show(value)
    }
}

/// kube-proxy's verbosity.
pub(super) struct Verbosity;

impl Form<LogLevel> for Verbosity {
    fn kind(&self) -> Kind {
        Kind::Integer(0, u32::MAX.into())
    }

    fn read(&self, value: &Checked) -> Result<LogLevel, Wrong> {
        integer(value).map(LogLevel::of_verbosity)
    }

    fn show(&self, value: &LogLevel) -> Value {
        value.verbosity().into()
    }
}

/// The format of the log: whether it is JSON.
pub(super) struct LogFormat;

impl Form<bool> for LogFormat {
    fn kind(&self) -> Kind {
        Kind::Choice(&[("text", "For people."), ("json", "One JSON object a line.")])
    }

    fn read(&self, value: &Checked) -> Result<bool, Wrong> {
        Ok(text(value)? == "json")
    }

    fn show(&self, value: &bool) -> Value {
        json!(if *value { "json" } else { "text" })
    }
}

/// An `oom_score_adj`.
pub(super) struct OomScore;

impl Form<Option<i16>> for OomScore {
    fn kind(&self) -> Kind {
        Kind::Integer(-1000, 1000)
    }

    fn read(&self, value: &Checked) -> Result<Option<i16>, Wrong> {
        integer(value).map(Some)
    }

    fn show(&self, value: &Option<i16>) -> Value {
        json!(value)
    }
}

/// A number of elements that the kernel can be asked for without doubt.
pub(super) struct Elements;

impl Form<u32> for Elements {
    fn kind(&self) -> Kind {
        Kind::Integer(16, 1 << 26)
    }

    fn read(&self, value: &Checked) -> Result<u32, Wrong> {
        integer(value)
    }

    fn show(&self, value: &u32) -> Value {
        json!(value)
    }
}

/// The same, or 0 for a number that is found at the start.
pub(super) struct ElementsOrNone;

impl Form<u32> for ElementsOrNone {
    fn kind(&self) -> Kind {
        Kind::Integer(0, 1 << 26)
    }

    fn read(&self, value: &Checked) -> Result<u32, Wrong> {
        integer(value)
    }

    fn show(&self, value: &u32) -> Value {
        json!(value)
    }
}

/// A range of ports.
pub(super) struct Ports;

impl Form<PortRange> for Ports {
    fn kind(&self) -> Kind {
        Kind::Text
    }

    fn read(&self, value: &Checked) -> Result<PortRange, Wrong> {
        text(value)?.parse().map_err(Wrong::Value)
    }

    fn show(&self, value: &PortRange) -> Value {
        value.to_string().into()
    }
}

/// One of a few names.
pub(super) struct OneOf;

impl<T: Choice> Form<T> for OneOf {
    fn kind(&self) -> Kind {
        Kind::Choice(T::NAMES)
    }

    fn read(&self, value: &Checked) -> Result<T, Wrong> {
        T::of_name(text(value)?).ok_or_else(other_kind)
    }

    fn show(&self, value: &T) -> Value {
        value.name().into()
    }
}
