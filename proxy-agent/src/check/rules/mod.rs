//! What facts mean.

mod devices;
mod kernel;
mod mounts;
mod network;
mod proxies;

use super::{Facts, Finding};

/// All findings, in the order in which an installation would meet them.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    [
        kernel::findings,
        mounts::findings,
        devices::findings,
        proxies::findings,
        network::findings,
    ]
    .into_iter()
    .flat_map(|of_part| of_part(facts))
    .collect()
}
