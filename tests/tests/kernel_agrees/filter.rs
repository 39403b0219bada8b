//! The filter in front of all lookups.

use std::net::SocketAddr;

use anyhow::Result;
use proxy_agent::maps::FilterRepairs;
use proxy_agent::plan::{BackendEntry, Write};
use proxy_ebpf::layout::backend_flags;
use proxy_tests::lab::Family;
use proxy_tests::packets::{
    Frontend, Hook, Outcome, Packet, Protocol, Scenario, address, tcp_flags,
};

use super::both::{Both, Device, in_a_namespace};

/// Endpoints that come and go.
const REPLACEMENTS: u32 = 10_000;

/// Whoever was an endpoint or had a Service's address is forgotten in the end, but for what
/// its flows need.
#[test]
fn what_nothing_needs_any_more_is_cleared_and_flows_go_on() -> Result<()> {
    for family in Family::BOTH {
        in_a_namespace(|| forget_endpoints(family))?;
    }
    Ok(())
}

fn forget_endpoints(family: Family) -> Result<()> {
    let service = SocketAddr::new(address(family, 9, 1), 80);
    let first = SocketAddr::new(address(family, 2, 1), 8080);
    let client = SocketAddr::new(address(family, 7, 1), 40_000);
    let mut scenario = Scenario::empty();
    let index = scenario.add_backend(first, true);
    let frontend = Frontend::new(service, Protocol::Tcp, vec![index]);
    scenario.frontends.push(frontend);
    let mut both = Both::new(&scenario, Device::Ethernet)?;

    // In the kernel only: it counts the traffic of an index's next endpoint anew.
    let run = |both: &mut Both, hook, packet: &Packet| {
        both.run_kernel(hook, Device::Ethernet, &packet.build())
    };
    let ask = |both: &mut Both, flags| {
        let packet = Packet::tcp(client, service, flags);
        let (outcome, bytes) = run(both, Hook::FromOutside, &packet)?;
        assert_eq!(outcome, Outcome::Passed);
        assert_eq!(packet.endpoints_in(&bytes), (client, first));
        let packet = Packet::tcp(first, client, tcp_flags::ACK | flags);
        let (outcome, bytes) = run(both, Hook::Out, &packet)?;
        assert_eq!(outcome, Outcome::Passed);
        assert_eq!(packet.endpoints_in(&bytes), (service, client));
        anyhow::Ok(())
    };
    ask(&mut both, tcp_flags::SYN)?;
    ask(&mut both, tcp_flags::ACK)?;

    both.remove_frontend(service)?;
    for number in 1..=REPLACEMENTS {
        let port = 1024 + u16::try_from(number)?;
        both.write(&Write::Backend {
            index: u32::try_from(index)?,
            entry: BackendEntry {
                address: address(family, 3, 1),
                port,
                flags: backend_flags::LOCAL,
                generation: 1 + 2 * number,
                service: 0,
            },
        })?;
    }
    let nothing = FilterRepairs::default();
    assert_eq!(both.reconcile_filter()?, nothing, "not at once");
    let mending = both.reconcile_filter()?;
    assert_eq!(mending.set, 0);
    // Two for each; some are shared.
    assert!(mending.cleared > 19_000, "{mending:?}");
    assert_eq!(both.reconcile_filter()?, nothing, "all is well again");
    ask(&mut both, tcp_flags::ACK)
}
