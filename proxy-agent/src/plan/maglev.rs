//! Tables for consistent hashing: every node sends a client to the same endpoint, and a
//! change of the endpoints moves few clients besides those of the endpoint that went.
//!
//! Maglev's (Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load
//! Balancer", NSDI 2016, section 3.4): each endpoint has an order of its own in which it
//! would like to have the slots, and they take turns until all are taken, as often as
//! their weights say. The orders follow from addresses and ports only, so that all nodes
//! have the same table.

use std::net::IpAddr;

use proxy_ebpf::pipeline::Hash;

use crate::model::desired::{Endpoint, Weight};

/// Sizes of tables: primes, so that each step leads through all slots. There are few,
/// since a change of the size moves all clients.
const SIZES: [usize; 3] = [2039, 16_381, 131_071];

/// Slots for each endpoint, up to 1310 of them: of one weight, shares differ by one slot
/// at most.
const SLOTS_PER_ENDPOINT: usize = 100;

/// What the two numbers of an endpoint's order are hashed with.
const OFFSET_SEED: u32 = 0x6f66_6673;
const SKIP_SEED: u32 = 0x736b_6970;

/// How many slots a table for so many endpoints has.
pub fn size(endpoints: usize) -> usize {
    if endpoints == 0 {
        return 0;
    }
    let wanted = endpoints.saturating_mul(SLOTS_PER_ENDPOINT);
    let [.., largest] = SIZES;
    SIZES
        .into_iter()
        .find(|size| *size >= wanted)
        .unwrap_or(largest)
}

/// The table for `endpoints`, which are sorted by address and port: for each slot the
/// position of its endpoint. Each has one slot at least.
pub fn table(endpoints: impl ExactSizeIterator<Item = (Endpoint, Weight)>) -> Vec<usize> {
    const FREE: usize = usize::MAX;
    let size = size(endpoints.len());
    let endpoints: Vec<_> = endpoints.collect();
    let weights = endpoints.iter().map(|(_, weight)| u32::from(weight.get()));
    // Of no weight all have the same.
    let heaviest = weights.max().unwrap_or(0);
    let mut orders: Vec<Order> = endpoints
        .iter()
        .map(|(endpoint, weight)| Order::new(endpoint, *weight, heaviest, size))
        .collect();
    let mut table = vec![FREE; size];
    let mut free = size;
    while free > 0 {
        for (position, order) in orders.iter_mut().enumerate() {
            if !order.has_turn(heaviest) {
                continue;
            }
            while table[order.next] != FREE {
                order.advance(size);
            }
            table[order.next] = position;
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    table
}

/// The order in which an endpoint would like to have the slots.
struct Order {
    /// The slot that it would like next.
    next: usize,
    skip: usize,
    weight: u32,
    /// Grows by its weight; as much as the heaviest one's is a turn.
    credit: u32,
}

impl Order {
    /// The first turn is everybody's: who is in the set has a slot.
    fn new(endpoint: &Endpoint, weight: Weight, heaviest: u32, size: usize) -> Self {
        let weight = u32::from(weight.get());
        Self {
            next: number(endpoint, OFFSET_SEED) % size,
            skip: number(endpoint, SKIP_SEED) % (size - 1) + 1,
            weight,
            credit: heaviest - weight,
        }
    }

    fn has_turn(&mut self, heaviest: u32) -> bool {
        self.credit += self.weight;
        let has_turn = self.credit >= heaviest;
        if has_turn {
            self.credit -= heaviest;
        }
        has_turn
    }

    fn advance(&mut self, size: usize) {
        self.next = (self.next + self.skip) % size;
    }
}

/// A number that follows from the endpoint's address and port.
fn number(endpoint: &Endpoint, seed: u32) -> usize {
    let bits = match endpoint.address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let words = [96, 64, 32, 0].map(|shift| u32::try_from(bits >> shift & 0xffff_ffff));
    let words = words.map(Result::unwrap_or_default);
    let port = u32::from(endpoint.port);
    let hash = words.into_iter().fold(Hash::new(seed), Hash::word);
    hash.word(port).finish() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints(count: u32) -> Vec<Endpoint> {
        (0..count)
            .map(|number| Endpoint {
                address: IpAddr::from((0x0af4_0000 + number * 7).to_be_bytes()),
                port: 8080,
                local: number % 3 == 0,
            })
            .collect()
    }

    /// The endpoint of each slot.
    fn owners(endpoints: &[Endpoint]) -> Vec<Endpoint> {
        owners_by_weight(endpoints, |_| Weight::default())
    }

    /// The same where each has the weight that is said of its position.
    fn owners_by_weight(endpoints: &[Endpoint], weigh: impl Fn(usize) -> Weight) -> Vec<Endpoint> {
        let weighed = |(at, endpoint): (usize, &Endpoint)| (*endpoint, weigh(at));
        let table = table(endpoints.iter().enumerate().map(weighed));
        table.into_iter().map(|at| endpoints[at]).collect()
    }

    fn weight(number: u16) -> Weight {
        Weight::new(number).unwrap()
    }

    /// How many slots each of the endpoints has.
    fn shares(endpoints: &[Endpoint], owners: &[Endpoint]) -> Vec<usize> {
        let share = |endpoint| owners.iter().filter(|owner| *owner == endpoint).count();
        endpoints.iter().map(share).collect()
    }

    fn moved(before: &[Endpoint], after: &[Endpoint]) -> usize {
        assert_eq!(before.len(), after.len());
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    #[test]
    fn no_endpoints_have_no_table() {
        assert_eq!(owners(&[]), []);
    }

    #[test]
    fn sizes_are_primes_and_grow_with_the_endpoints() {
        for size in SIZES {
            assert!(
                (2..size)
                    .take_while(|n| n * n <= size)
                    .all(|n| size % n != 0)
            );
        }
        assert_eq!(
            [1, 20, 21, 163, 164, 5000].map(size),
            [2039, 2039, 16_381, 16_381, 131_071, 131_071]
        );
    }

    /// Nodes of an older version have the same while a new one is rolled out: whoever changes
    /// this moves all clients.
    #[test]
    fn the_table_is_fixed() {
        let v4 = endpoints(5);
        let mut v6 = v4.clone();
        for (number, endpoint) in (0..).zip(&mut v6) {
            // In networks of their own, at the same place.
            endpoint.address = [0xfd00, number, 0, 0, 0, 0, 0, 1].into();
        }
        let beginning = |endpoints: &[Endpoint], weights: [u16; 5]| -> Vec<usize> {
            let weighed = |(at, endpoint): (usize, &Endpoint)| (*endpoint, weight(weights[at]));
            let table = table(endpoints.iter().enumerate().map(weighed));
            table.into_iter().take(16).collect()
        };
        assert_eq!(
            beginning(&v4, [100; 5]),
            [1, 3, 4, 4, 3, 4, 4, 4, 0, 0, 2, 4, 1, 1, 1, 4]
        );
        assert_eq!(
            beginning(&v4, [100, 50, 25, 10, 1]),
            [1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 2, 2, 1, 1, 0, 0]
        );
        assert_eq!(
            beginning(&v6, [100; 5]),
            [2, 0, 0, 3, 1, 4, 1, 2, 2, 3, 4, 4, 2, 0, 1, 4]
        );
    }

    #[test]
    fn every_endpoint_has_its_share() {
        for count in [1, 2, 3, 10, 20, 100, 163, 1000] {
            let endpoints = endpoints(count);
            let shares = shares(&endpoints, &owners(&endpoints));
            // They take turns, so that none has more than one slot less than another.
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count}: {least} to {most}");
        }
    }

    #[test]
    fn where_an_endpoint_runs_does_not_matter() {
        let here = endpoints(10);
        let mut there = here.clone();
        for endpoint in &mut there {
            endpoint.local = !endpoint.local;
        }
        let addresses = |endpoints: &[Endpoint]| -> Vec<_> {
            owners(endpoints).iter().map(|it| it.address).collect()
        };
        assert_eq!(addresses(&here), addresses(&there));
    }

    #[test]
    fn ports_of_one_address_have_orders_of_their_own() {
        let mut pair = endpoints(1);
        pair.push(Endpoint {
            port: 8081,
            ..pair[0]
        });
        let [first, second] = [0, 1].map(|at| Order::new(&pair[at], Weight::default(), 100, 2039));
        assert_ne!((first.next, first.skip), (second.next, second.skip));
    }

    #[test]
    fn equal_weights_are_no_weights() {
        let endpoints = endpoints(10);
        for number in [0, 1, 7, 1000] {
            let weighed = owners_by_weight(&endpoints, |_| weight(number));
            assert_eq!(weighed, owners(&endpoints), "{number}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_as_the_weights(weights in prop::collection::vec(1u16..=1000, 1..60)) {
            let endpoints = endpoints(u32::try_from(weights.len()).unwrap());
            let owners = owners_by_weight(&endpoints, |at| weight(weights[at]));
            let sum: usize = weights.iter().map(|it| usize::from(*it)).sum();
            for (share, weight) in shares(&endpoints, &owners).iter().zip(&weights) {
                prop_assert!(*share > 0);
                // All of them have one slot first, which the others lack in proportion, and
                // the last round breaks off.
                let fair = owners.len() * usize::from(*weight) / sum;
                let off = share.abs_diff(fair);
                prop_assert!(off <= 3 + weights.len(), "{share}, not {fair}");
            }
        }

        /// Of the slots whose owner's weight stays, few change hands with another's weight.
        #[test]
        fn a_weight_that_changes_moves_few_others(
            weights in prop::collection::vec(50u16..=200, 2..20),
            changed in any::<prop::sample::Index>(),
            to in 50u16..=200,
        ) {
            let endpoints = endpoints(u32::try_from(weights.len()).unwrap());
            let changed = changed.index(weights.len());
            let before = owners_by_weight(&endpoints, |at| weight(weights[at]));
            let after = owners_by_weight(&endpoints, |at| {
                weight(if at == changed { to } else { weights[at] })
            });
            let its_own = |owner: &Endpoint| *owner == endpoints[changed];
            let others = before.iter().zip(&after).filter(|(a, b)| !its_own(a) && !its_own(b));
            let moved = others.filter(|(a, b)| a != b).count();
            prop_assert!(moved * 5 <= before.len(), "{moved} of {}", before.len());
        }

        /// Of the slots that were not the leaving endpoint's, few change hands.
        #[test]
        fn one_that_leaves_takes_few_others_along(count in 2u32..60, leaving in any::<prop::sample::Index>()) {
            prop_assume!(size(count as usize) == size(count as usize - 1));
            let before = endpoints(count);
            let mut after = before.clone();
            let gone = after.remove(leaving.index(after.len()));
            let (before, after) = (owners(&before), owners(&after));
            let its_own = before.iter().filter(|owner| **owner == gone).count();
            let others = moved(&before, &after) - its_own;
            prop_assert!(others * 20 <= before.len(), "{others} of {}", before.len());
        }
    }
}
