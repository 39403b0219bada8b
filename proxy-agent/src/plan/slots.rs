//! The slots of a Service port: its sets, or tables of them.

use super::maglev;
use crate::model::desired::{DesiredPort, Endpoint};
use crate::model::object::{Algorithm, Forwarding};

/// How many slots both sets take.
pub(super) fn count(desired: &DesiredPort, algorithm: Algorithm) -> usize {
    let len = |set: &[usize], algorithm| match algorithm {
        Algorithm::Random => set.len(),
        Algorithm::Maglev => maglev::size(set.len()),
    };
    len(&desired.cluster, algorithm) + len(&desired.local, of_local_set(desired, algorithm))
}

/// What the local set is made for. Where nodes hand connections to each other's endpoints,
/// these are looked for there, each once.
fn of_local_set(desired: &DesiredPort, algorithm: Algorithm) -> Algorithm {
    match desired.forwarding {
        Forwarding::Snat => algorithm,
        Forwarding::Dsr => Algorithm::Random,
    }
}

/// The slots of both sets, one behind the other, and how many are the cluster set's.
pub(super) fn of(
    desired: &DesiredPort,
    algorithm: Algorithm,
    backends: &[(Endpoint, u32)],
) -> (u32, Box<[u32]>) {
    let of_set = |set: &[usize], algorithm| -> Vec<u32> {
        let member = |position: &usize| Some((backends.get(*position)?, *position));
        let members: Vec<_> = set.iter().filter_map(member).collect();
        match algorithm {
            Algorithm::Random => members.iter().map(|((_, index), _)| *index).collect(),
            Algorithm::Maglev => {
                let weigh = |(backend, position): &(&(Endpoint, u32), usize)| {
                    (backend.0, desired.weight(*position))
                };
                let table = maglev::table(members.iter().map(weigh));
                table
                    .into_iter()
                    .map(|position| members[position].0.1)
                    .collect()
            }
        }
    };
    let mut slots = of_set(&desired.cluster, algorithm);
    let cluster = u32::try_from(slots.len()).unwrap_or(0);
    slots.append(&mut of_set(
        &desired.local,
        of_local_set(desired, algorithm),
    ));
    (cluster, slots.into())
}
