//! Which writes belong together: they are made in their order, or wait.

use super::write::WrittenElement;

/// Writes that are made one after the other: where one fails, the rest of its group waits,
/// and the others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Those of a Service port, by its id.
    Port(u32),
    /// The node's settings, and what they presuppose.
    Settings,
    /// What nothing else depends on.
    Element(WrittenElement),
}

/// What has to be written before something else is written, or used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// All writes of these groups, of which it belongs to the first.
    Groups(Vec<Group>),
    /// Everything.
    All,
}

impl After {
    /// The writes of a Service port.
    pub fn port(service: u32) -> Self {
        Self::Groups(vec![Group::Port(service)])
    }
}
