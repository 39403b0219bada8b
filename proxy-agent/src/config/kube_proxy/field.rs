//! What a field may hold, and what comes of it.

use super::duration::GoDuration;
use super::error::Place;

/// A field that a document may have.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// Its path, such as `iptables.syncPeriod`.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) effect: Effect,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Bool,
    /// A whole number between two others, both included.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// A duration that is not below 0.
    Duration,
    /// The same, or a number of nanoseconds.
    DurationOrNanos,
    OneOf(&'static [&'static str]),
    /// One of these names, each with what it means, or nothing.
    Choice(&'static [(&'static str, &'static str)]),
    Texts,
    Cidrs,
    /// Names with true or false.
    Flags,
    /// Two ports, or a port and how many follow: `300-2000`, `300+20`, or nothing.
    PortRange,
    /// Major and minor version, or nothing.
    Version,
    /// A number of bytes such as `64Ki`, which is not looked into.
    Quantity,
    /// Files, each with a verbosity, which are not looked into.
    Verbosities,
}

/// What comes of a field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Effect {
    /// It is a setting here too.
    Used,
    /// It is a setting where kube-proxy is in one of these modes. It is left out
    /// with any of these values.
    OfModes(&'static [&'static str], &'static [&'static str]),
    /// Nothing, for this reason. It need not be said for these values: kube-proxy's
    /// default, and what asks for just what happens here.
    Nothing(&'static [&'static str], &'static str),
}

/// A field that is a setting here too.
pub(super) const fn used(path: &'static str, kind: Kind) -> Field {
    let effect = Effect::Used;
    Field { path, kind, effect }
}

/// A field of some of kube-proxy's modes.
pub(super) const fn of_modes(
    path: &'static str,
    kind: Kind,
    modes: &'static [&'static str],
    defaults: &'static [&'static str],
) -> Field {
    let effect = Effect::OfModes(modes, defaults);
    Field { path, kind, effect }
}

/// A field without effect.
pub(super) const fn nothing(
    path: &'static str,
    kind: Kind,
    defaults: &'static [&'static str],
    reason: &'static str,
) -> Field {
    let effect = Effect::Nothing(defaults, reason);
    Field { path, kind, effect }
}

/// What a document has for a field.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) field: &'static Field,
    pub(super) place: Place,
    pub(super) value: Checked,
}

/// A value that is of its field's kind.
#[derive(Clone, Debug)]
pub(super) enum Checked {
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    Duration(GoDuration),
    Texts(Vec<(Place, String)>),
    /// Something with this many members, which are not looked into.
    Other(usize),
}

impl Checked {
    /// Whether it sets nothing: an empty text, an empty list, or a duration of 0.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Texts(texts) => texts.is_empty(),
            Self::Duration(duration) => *duration == GoDuration(0),
            _ => false,
        }
    }

    /// Whether it is empty, or a text of blanks.
    pub(super) fn is_blank(&self) -> bool {
        self.is_empty() || matches!(self, Self::Text(text) if text.trim().is_empty())
    }

    /// Where the item of a list with this number is.
    pub(super) fn place_of(&self, number: usize) -> Option<Place> {
        match self {
            Self::Texts(texts) => texts.get(number).map(|(place, _)| *place),
            _ => None,
        }
    }

    /// Whether it is the value that is written so in a table of fields.
    pub(super) fn is(&self, written: &str) -> bool {
        match self {
            Self::Bool(value) => value.to_string() == written,
            Self::Integer(value) => value.to_string() == written,
            Self::Number(value) => value.to_string() == written,
            Self::Duration(value) => value.to_string() == written,
            Self::Text(value) => value == written,
            Self::Texts(items) => items.is_empty() && written.is_empty(),
            Self::Other(members) => *members == 0 && written.is_empty(),
        }
    }
}
