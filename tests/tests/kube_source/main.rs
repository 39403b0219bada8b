//! What the Kubernetes source tells of a server's objects, through all kinds of
//! trouble.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

mod changes;
mod credentials;
mod gaps;
mod listener;
mod objects;
mod outages;
