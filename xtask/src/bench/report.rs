//! What a comparison found, and its forms: JSON, Markdown, plots.
//!
//! The JSON is the report; Markdown and plots are made from it alone.

pub(super) mod machine;
pub(super) mod markdown;
pub(super) mod model;
pub(super) mod spread;
pub(super) mod svg;

pub(super) use machine::Machine;
pub(super) use model::{Figure, Goal, Position, Report, Row};
pub(super) use spread::Spread;
