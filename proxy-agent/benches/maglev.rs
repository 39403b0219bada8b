//! How even the tables for consistent hashing are, how much a change of the endpoints
//! moves, and what they cost: `cargo xtask bench maglev`.

use std::net::IpAddr;
use std::time::Instant;

use proxy_agent::model::desired::Endpoint;
use proxy_agent::plan::maglev::table;
use proxy_ebpf::pipeline::hash;

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

/// The endpoint of each slot.
fn owners(endpoints: &[Endpoint]) -> Vec<IpAddr> {
    let table = table(endpoints.iter());
    let owners = table.into_iter().map(|at| endpoints[at].address);
    owners.collect()
}

/// The slot of a client, as the data path finds it.
fn slot(client: u32, slots: usize) -> usize {
    let product = u64::from(hash(6, [client])) * slots as u64;
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
        "{:>9} {:>7} {:>9} {:>9} {:>9} {:>10}",
        "", "", "busiest", "moved,", "moved,", ""
    );
    println!(
        "{:>9} {:>7} {:>9} {:>9} {:>9} {:>10}",
        "endpoints", "slots", "endpoint", "one less", "one more", "to compute"
    );
    for count in [3, 10, 100, 1000] {
        let all = endpoints(count);
        let began = Instant::now();
        let now = owners(&all);
        let took = began.elapsed();
        let mut loads = std::collections::HashMap::new();
        for client in 0..CLIENTS {
            *loads.entry(now[slot(client, now.len())]).or_insert(0_u32) += 1;
        }
        let mean = f64::from(CLIENTS) / f64::from(count);
        let busiest = loads.values().max().copied().unwrap_or(0);
        let mut fewer = all.clone();
        let gone = fewer.remove(fewer.len() / 2).address;
        println!(
            "{count:>9} {:>7} {:>8.1}% {:>8.2}% {:>8.2}% {:>7.2} ms",
            now.len(),
            100.0 * (f64::from(busiest) / mean - 1.0),
            moved(&now, &owners(&fewer), Some(gone)),
            moved(&now, &owners(&endpoints(count + 1)), None),
            took.as_secs_f64() * 1e3,
        );
    }
}
