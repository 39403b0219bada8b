//! Packets with names, and what becomes of each: the text files in `fixtures/`, whose
//! `README.md` says how they are written.

mod block;
mod frame;
mod hex;
mod packet;
mod suite;

use std::fmt::Write as _;

use anyhow::Result;

use super::{Hook, Scenario};
pub use frame::Frame;

/// Where the files are.
const FOLDER: &str = "tests/src/packets/fixtures";
/// The files, by their names.
const FILES: [(&str, &str); 5] = [
    ("services.txt", include_str!("fixtures/services.txt")),
    ("errors.txt", include_str!("fixtures/errors.txt")),
    ("fragments.txt", include_str!("fixtures/fragments.txt")),
    ("tunnels.txt", include_str!("fixtures/tunnels.txt")),
    ("captured.txt", include_str!("fixtures/captured.txt")),
];

/// A node, and the packets that it sees one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suite {
    /// What the node's maps hold.
    pub scenario: Scenario,
    /// The packets, in this order.
    pub fixtures: Vec<Fixture>,
}

/// A packet, and what becomes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fixture {
    /// What it shows, behind the file and line where it says so.
    pub name: String,
    /// Where the packet is seen.
    pub hook: Hook,
    /// The packet.
    pub packet: Frame,
    /// Where it goes.
    pub outcome: Outcome,
    /// What it looks like afterwards.
    pub becomes: Frame,
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// On through the stack.
    Passed,
    /// Nowhere.
    Dropped,
    /// Out by a device of the program's choice.
    SentOn,
}

/// All fixtures.
///
/// # Errors
/// With file and line of what cannot be read.
pub fn fixtures() -> Result<Vec<Suite>> {
    let mut suites = Vec::new();
    for (name, text) in FILES {
        suites.extend(suite::parse(&format!("{FOLDER}/{name}"), text)?);
    }
    Ok(suites)
}

impl Suite {
    /// Whether a packet comes in a tunnel, and goes on without.
    pub fn decapsulates(&self) -> bool {
        self.fixtures
            .iter()
            .any(|it| it.packet.has_tunnel() && !it.becomes.has_tunnel())
    }
}

impl Fixture {
    /// The same on a device without Ethernet headers, with at least so many bytes behind the
    /// transport header; `None` for captured bytes.
    pub fn bare(&self, at_least: usize) -> Option<Self> {
        Some(Self {
            packet: self.packet.bare(at_least)?,
            becomes: self.becomes.bare(at_least)?,
            ..self.clone()
        })
    }

    /// Holds what came of the packet against what should have.
    ///
    /// # Panics
    /// If it is something else, with that in the words of a fixture.
    pub fn check(&self, outcome: Outcome, after: &[u8]) {
        let wanted = self.becomes.build();
        assert!(
            outcome == self.outcome && after == wanted,
            "{}\nwanted:\n{}\nfound:\n{}",
            self.name,
            shown(self.outcome, &wanted),
            shown(outcome, after)
        );
    }
}

/// An outcome in the words of a fixture.
fn shown(outcome: Outcome, bytes: &[u8]) -> String {
    let mut text = format!("  verdict {}\n  out\n", outcome.name());
    for line in hex::lines(bytes) {
        let _ = writeln!(text, "    {line}");
    }
    text
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Passed, Self::Dropped, Self::SentOn];

    /// Its word in the files.
    fn name(self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Dropped => "drop",
            Self::SentOn => "redirect",
        }
    }
}

#[cfg(test)]
mod tests;
