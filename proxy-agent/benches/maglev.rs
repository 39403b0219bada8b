//! How even the tables for consistent hashing are, how much a change of the endpoints
//! moves, and what they cost: `cargo xtask bench maglev`.

use std::net::IpAddr;
use std::time::Instant;

use proxy_agent::model::desired::{Endpoint, Weight};
use proxy_agent::plan::maglev::table;
use proxy_ebpf::pipeline::Hash;

/// Clients whose endpoint is looked up.
const CLIENTS: u32 = 1_000_000;

fn endpoints(count: u32) -> Vec<Endpoint> {
    let address = |number: u32| IpAddr::from((0x0af4_0000 + number).to_be_bytes());
    let endpoint = |number| Endpoint {
        address: address(number),
        port: 8080,
        local: false,
    };
    (1..=count).map(endpoint).collect()
}

/// Every tenth endpoint is a canary with a tenth of the others' clients.
fn canaries(endpoint: &Endpoint) -> Weight {
    let IpAddr::V4(address) = endpoint.address else {
        return Weight::default();
    };
    let weight = (u32::from(address) % 10 == 0).then(|| Weight::new(10));
    weight.flatten().unwrap_or_default()
}

/// The same for all.
fn even(_: &Endpoint) -> Weight {
    Weight::default()
}

/// What each endpoint's weight is.
type Weigh = fn(&Endpoint) -> Weight;

/// The endpoint of each slot.
fn owners(endpoints: &[Endpoint], weigh: Weigh) -> Vec<IpAddr> {
    let table = table(endpoints.iter().map(|it| (*it, weigh(it))));
    let owners = table.into_iter().map(|at| endpoints[at].address);
    owners.collect()
}

/// The slot of a client, as the data path finds it.
fn slot(client: u32, slots: usize) -> usize {
    let product = u64::from(Hash::new(6).word(client).finish()) * slots as u64;
    usize::try_from(product >> 32).unwrap_or(0)
}

/// How many of the clients go from one endpoint to another, in percent, without those
/// of an endpoint that went.
fn moved(before: &[IpAddr], after: &[IpAddr], gone: Option<IpAddr>) -> f64 {
    let moves = (0..CLIENTS).filter(|client| {
        let owner = before[slot(*client, before.len())];
        owner != after[slot(*client, after.len())] && Some(owner) != gone
    });
    let moves = u32::try_from(moves.count()).unwrap_or(u32::MAX);
    100.0 * f64::from(moves) / f64::from(CLIENTS)
}

fn main() {
    println!(
        "{:>9} {:>8} {:>7} {:>9} {:>9} {:>9} {:>10}",
        "", "", "", "busiest", "moved,", "moved,", ""
    );
    println!(
        "{:>9} {:>8} {:>7} {:>9} {:>9} {:>9} {:>10}",
        "endpoints", "weights", "slots", "endpoint", "one less", "one more", "to compute"
    );
    for (name, weigh) in [("even", even as Weigh), ("canaries", canaries)] {
        for count in [3, 10, 100, 1000] {
            row(name, weigh, count);
        }
    }
}

fn row(name: &str, weigh: Weigh, count: u32) {
    let all = endpoints(count);
    let began = Instant::now();
    let now = owners(&all, weigh);
    let took = began.elapsed();
    let mut loads = std::collections::HashMap::new();
    for client in 0..CLIENTS {
        *loads.entry(now[slot(client, now.len())]).or_insert(0_u32) += 1;
    }
    let sum: u32 = all.iter().map(|it| u32::from(weigh(it).get())).sum();
    // How much more than its part each has.
    let excess = all.iter().filter_map(|endpoint| {
        let load = f64::from(*loads.get(&endpoint.address)?);
        let part = f64::from(weigh(endpoint).get()) / f64::from(sum);
        Some(load / (f64::from(CLIENTS) * part) - 1.0)
    });
    let busiest = excess.fold(f64::MIN, f64::max);
    let mut fewer = all.clone();
    let gone = fewer.remove(fewer.len() / 2).address;
    println!(
        "{count:>9} {name:>8} {:>7} {:>8.1}% {:>8.2}% {:>8.2}% {:>7.2} ms",
        now.len(),
        100.0 * busiest,
        moved(&now, &owners(&fewer, weigh), Some(gone)),
        moved(&now, &owners(&endpoints(count + 1), weigh), None),
        took.as_secs_f64() * 1e3,
    );
}
