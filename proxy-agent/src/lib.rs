//! The agent: keeps the kernel's maps in step with a cluster's Services.
//!
//! ```text
//!  source ─► model ─► plan ─► maps        attach: programs on edge devices
//!            (pure)  (diff)  (kernel)     status, metrics, serve: health and metrics
//!                                         recorder: Events
//!                                         inspect: what the maps hold, for operators
//!                                         config, cli: settings and commands
//!                                         check: whether a node is fit for it
//!                                         runtime: the loop that drives all
//! ```
//!
//! Data flows one way. [`agent`] joins the stages; each of them knows only its
//! neighbours' types.

pub mod agent;
pub mod attach;
pub mod check;
pub mod choice;
pub mod cli;
pub mod config;
pub mod host;
pub mod inspect;
pub mod maps;
pub mod metrics;
pub mod model;
pub mod plan;
pub mod recorder;
pub mod runtime;
pub mod serve;
pub mod source;
pub mod status;
