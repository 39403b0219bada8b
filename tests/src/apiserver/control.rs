//! What a test tells the server to do.

use std::time::Duration;

/// How requests fare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// They are answered.
    #[default]
    Well,
    /// New ones are refused with this status; watches go on.
    Refusing(u16),
    /// Neither new ones nor watches get another byte, and nothing is closed.
    Silent,
    /// New watches are answered, and end at once.
    EndingWatches,
}

/// How a watch from an expired version is told so. The API has both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// By an ERROR event in the stream.
    #[default]
    Event,
    /// By the status of the answer.
    Status,
}

/// The state that tests set.
#[derive(Clone, Debug, Default)]
pub(super) struct Control {
    pub(super) health: Health,
    pub(super) expiry: Expiry,
    pub(super) delay: Duration,
    /// Watches that began with a smaller number are to end.
    pub(super) cuts: u64,
    /// Watches that began with a smaller number are to break.
    pub(super) breaks: u64,
}
