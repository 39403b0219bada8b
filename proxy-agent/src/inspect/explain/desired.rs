//! What should be served beside what the maps hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::SocketAddr;

use serde::Serialize;

use super::Explanation;
use crate::inspect::backends::BackendRow;
use crate::model::Standing;
use crate::model::object::TrafficPolicy;
use crate::status::{DesiredEndpoint, DesiredFrontend, DesiredReport};

/// What should be served, and where the maps differ from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// What should be served there.
    #[serde(flatten)]
    pub desired: DesiredReport,
    /// How the maps differ from it, in words; nothing where they agree.
    pub differences: Vec<String>,
}

impl Comparison {
    /// Compares what the maps hold with what the agent says.
    pub fn new(explanation: &Explanation, desired: DesiredReport) -> Self {
        let differences = match (&explanation.frontend, &desired.frontend) {
            (None, None) => Vec::new(),
            (Some(found), None) => vec![format!(
                "no Service should be reached there, the maps have {}",
                found.service
            )],
            (None, Some(wanted)) => vec![format!("{} should be reached there", wanted.service)],
            (Some(found), Some(wanted)) => {
                let frontend = &found.frontend;
                let words = [
                    difference("Service", &wanted.service, &found.service.to_string()),
                    difference("kind", &wanted.kind, frontend.kind),
                    difference(
                        "traffic policy",
                        &wanted.traffic_policy,
                        frontend.traffic_policy,
                    ),
                ];
                let endpoints = endpoints(wanted, &explanation.endpoints);
                words.into_iter().flatten().chain(endpoints).collect()
            }
        };
        Self {
            desired,
            differences,
        }
    }

    /// Why new connections to an endpoint are sent there, or not, under the frontend's policy.
    pub fn standing(&self, endpoint: SocketAddr) -> Option<&str> {
        let wanted = self.desired.frontend.as_ref()?;
        let endpoints = &wanted.endpoints;
        let position = endpoints.binary_search_by_key(&endpoint, |it| it.endpoint);
        let row = endpoints.get(position.ok()?)?;
        Some(if wanted.traffic_policy == TrafficPolicy::Local.name() {
            &row.under_local
        } else {
            &row.under_cluster
        })
    }

    /// The endpoints that the maps lack.
    pub fn endpoints_beside<'a>(
        &'a self,
        rows: &'a [BackendRow],
    ) -> impl Iterator<Item = &'a DesiredEndpoint> {
        let found: BTreeSet<_> = rows.iter().map(|row| row.endpoint).collect();
        let wanted = self.desired.frontend.iter();
        let all = wanted.flat_map(|it| &it.endpoints);
        all.filter(move |it| !found.contains(&it.endpoint))
    }
}

fn difference(what: &str, wanted: &str, found: &str) -> Option<String> {
    (wanted != found).then(|| format!("{what}: should be {wanted}, the maps have {found}"))
}

/// The endpoints that are in a set and should not be, or the other way round.
fn endpoints<'a>(
    wanted: &'a DesiredFrontend,
    rows: &'a [BackendRow],
) -> impl Iterator<Item = String> + 'a {
    let mut all: BTreeMap<SocketAddr, ([bool; 2], [bool; 2])> = BTreeMap::new();
    for it in &wanted.endpoints {
        let is_in = [&it.under_cluster, &it.under_local];
        let is_in = is_in.map(|standing| *standing == Standing::Candidate.name());
        all.entry(it.endpoint).or_default().0 = is_in;
    }
    for row in rows {
        all.entry(row.endpoint).or_default().1 = [row.in_cluster_set, row.in_local_set];
    }
    all.into_iter().flat_map(|(endpoint, (wanted, found))| {
        let policies = [TrafficPolicy::Cluster, TrafficPolicy::Local].map(TrafficPolicy::name);
        let sets = policies.into_iter().zip(wanted).zip(found);
        let differing = sets.filter(|((_, wanted), found)| wanted != found);
        differing.map(move |((policy, wanted), _)| in_words(&endpoint, policy, wanted))
    })
}

fn in_words(endpoint: &impl Display, policy: &str, is_wanted: bool) -> String {
    let (should, is) = if is_wanted {
        ("should", "does not")
    } else {
        ("should not", "does")
    };
    format!("{endpoint}: {should} get new connections under the policy {policy}, and {is}")
}
