//! The Kubernetes source against an API server that misbehaves on demand.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod server;
mod serving;
mod watching;
