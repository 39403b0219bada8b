//! The table of maps as `docs/ARCHITECTURE.md` has it.

use std::fmt::{self, Write as _};

use super::super::{Lifetime, MapKind, MapSize, SizeSetting, WAYS};
use super::CONTENT;

const ARCHITECTURE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/ARCHITECTURE.md"
));

#[test]
fn the_docs_have_the_table_of_maps() {
    let table = table();
    assert!(
        ARCHITECTURE.contains(&table),
        "the table in docs/ARCHITECTURE.md should be:\n\n{table}"
    );
}

fn table() -> String {
    let mut table =
        String::from("\n| map | kind | elements | lifetime | content |\n|---|---|---|---|---|\n");
    for (names, map, content) in CONTENT {
        let name = match names {
            [v4, _] => format!("{v4}/V6"),
            _ => names.concat(),
        };
        let (kind, size, lifetime) = (map.kind, map.size, map.lifetime);
        let _ = writeln!(
            table,
            "| `{name}` | {kind} | {size} | {lifetime} |{content} |"
        );
    }
    table + "\n"
}

impl fmt::Display for MapKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Hash => "hash, not preallocated",
            Self::LruHash => "LRU hash",
            Self::Trie => "trie of prefixes",
            Self::Array => "array",
            Self::MappedArray => "array, mapped into the agent",
            Self::PerCpuArray => "per-CPU array",
            Self::ProgramArray => "array of programs",
            Self::RingBuffer => "ring buffer",
        })
    }
}

impl fmt::Display for MapSize {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(out, "{size}"),
            Self::Bytes(size) => write!(out, "{} KiB", size / 1024),
            Self::OneEach(_) => out.write_str("one each"),
            Self::Of(setting) => write!(out, "{setting}"),
            Self::Twice(setting) => write!(out, "{setting} × 2"),
            Self::Half(setting) => write!(out, "{setting} / 2"),
            Self::Buckets(setting) => write!(out, "{setting} × 2, {WAYS} in a bucket"),
        }
    }
}

impl fmt::Display for SizeSetting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Frontends => "`frontends`",
            Self::Backends => "`backends`",
            Self::Slots => "`slots`",
            Self::Flows => "`flows`",
            Self::NodeAddresses => "`node_addresses`",
        })
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Carried => "carried over",
            Self::CarriedIfThere => "carried over if there",
            Self::FilledByPackets | Self::FilledBySockets => "carried over twice",
            Self::Anew => "pinned",
            Self::Passing => "passing",
        })
    }
}
