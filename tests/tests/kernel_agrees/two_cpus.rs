//! Flows that two CPUs make at the same time, by the real programs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use proxy_ebpf::layout::Counter;
use proxy_tests::lab::Family;
use proxy_tests::lab::load::scaled;
use proxy_tests::packets::{Frontend, Packet, Protocol, Scenario, address};

use super::both::{Both, Device, in_a_namespace};

/// Flows to an endpoint of the node, each with its client's source port.
const NEAR: usize = 50_000;
/// Flows to an endpoint of another node, each with another source port of the node's.
const FAR: usize = 20_000;
/// Records, so that few buckets are full.
const RECORDS: u32 = 400_000;

/// What a packet got: from where to where.
type Ends = (SocketAddr, SocketAddr);

/// Where two threads wait for each other.
struct Start(AtomicUsize);

impl Start {
    fn wait(&self, round: usize) {
        self.0.fetch_add(1, Ordering::AcqRel);
        while self.0.load(Ordering::Acquire) < 2 * round {
            thread::yield_now();
        }
    }
}

/// Each packet on both CPUs at once: no tuple has two owners, both get the same one, and none
/// is lost.
#[test]
fn two_cpus_that_make_one_flow_agree() -> Result<()> {
    in_a_namespace(|| {
        for family in Family::BOTH {
            let at = |network, host, port| SocketAddr::new(address(family, network, host), port);
            let mut scenario = Scenario::empty();
            scenario.nat_ports = (1024, 60_000);
            let near = scenario.add_backend(at(2, 1, 8080), true);
            let far = scenario.add_backend(at(3, 1, 8080), false);
            for (service, backend) in [(at(9, 1, 80), near), (at(9, 2, 80), far)] {
                let frontend = Frontend::new(service, Protocol::Udp, vec![backend]);
                scenario.frontends.push(frontend);
            }
            let mut both = Both::with_flows(&scenario, Device::Ethernet, RECORDS)?;
            make(&mut both, family, scaled(NEAR), at(9, 1, 80))?;
            make(&mut both, family, FAR, at(9, 2, 80))?;
            for counter in [
                Counter::FlowTableFull,
                Counter::PortsExhausted,
                Counter::RecordsEvicted,
            ] {
                let count = both.kernel_counter(counter)?;
                println!("{family:?}: {counter:?} {count}");
            }
            ensure!(both.kernel_counter(Counter::PortsExhausted)? == 0);
        }
        Ok(())
    })
}

/// Makes so many flows to a Service, each on both CPUs.
fn make(both: &mut Both, family: Family, flows: usize, service: SocketAddr) -> Result<()> {
    let full = both.kernel_counter(Counter::FlowTableFull)?;
    let made = both.kernel_counter(Counter::FlowsCreated)?;
    let packets: Vec<_> = (0..flows)
        .map(|number| Packet::udp(client(family, number), service))
        .collect();
    let program = both.ingress()?;
    let start = Start(AtomicUsize::new(0));
    let run_all = || -> Result<Vec<Option<Ends>>> {
        let mut results = Vec::with_capacity(packets.len());
        for (round, packet) in (1..).zip(&packets) {
            let bytes = packet.build();
            start.wait(round);
            results.push(run(program, packet, &bytes)?);
        }
        Ok(results)
    };
    let [one, other] = thread::scope(|scope| {
        let threads = [scope.spawn(run_all), scope.spawn(run_all)];
        threads.map(|thread| thread.join().expect("no panic"))
    });
    let (one, other) = (one?, other?);
    let full = both.kernel_counter(Counter::FlowTableFull)? - full;
    let made = both.kernel_counter(Counter::FlowsCreated)? - made;
    let mut owners = HashMap::new();
    let mut lost = 0_u64;
    for (number, (one, other)) in one.into_iter().zip(other).enumerate() {
        let (Some(one), Some(other)) = (one, other) else {
            lost += 1;
            continue;
        };
        ensure!(
            one == other,
            "flow {number} has two tuples: {one:?} and {other:?}"
        );
        if let Some(owner) = owners.insert(one, number) {
            anyhow::bail!("{one:?} is of flows {owner} and {number}");
        }
    }
    let conflicts = both.kernel_counter(Counter::ClaimConflict)?;
    println!(
        "{family:?}: {flows} flows on two CPUs, {made} made, {lost} without room, {conflicts} \
         packets that did not wait for the other CPU"
    );
    ensure!(lost == full, "{lost} lost, and {full} without room");
    Ok(())
}

fn client(family: Family, number: usize) -> SocketAddr {
    let host = u8::try_from(1 + number / 50_000).unwrap_or(u8::MAX);
    let port = u16::try_from(10_000 + number % 50_000).unwrap_or(u16::MAX);
    SocketAddr::new(address(family, 7, host), port)
}

/// What a packet becomes; `None` if it is dropped.
fn run(program: &SchedClassifier, packet: &Packet, bytes: &[u8]) -> Result<Option<Ends>> {
    const DROPPED: u32 = 2;
    let mut out = vec![0; bytes.len() + 64];
    let result = program.test_run(TestRunOptions {
        data_in: Some(bytes),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    })?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value != DROPPED).then(|| packet.endpoints_in(&out)))
}
