//! What is made of the metrics: docs/METRICS.md, and the alerts and dashboard of
//! `manifests/monitoring`, held against what the agent exports.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod document;
mod exported;
mod expression;
mod files;
mod promql;
