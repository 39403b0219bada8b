//! What the data path's counters mean for a packet.

use proxy_ebpf::layout::Counter;

/// Why a packet is not translated, in a sentence; none of counters that give no reason.
pub fn meaning(reason: &str) -> Option<&'static str> {
    let (counter, _) = Counter::ALL.into_iter().find(|(_, name)| *name == reason)?;
    Some(match counter {
        Counter::NoEndpoints => "no endpoint of the Service serves",
        Counter::NoLocalEndpoints => {
            "the traffic policy is Local, and no endpoint on this node serves"
        }
        Counter::SourceNotAllowed => "the client is in none of the Service's source ranges",
        Counter::NoSuchPort => "the ClusterIP has no such port",
        Counter::NoSuchService => "the address is in a ServiceCIDR, and no Service has it",
        Counter::MartianSource => "no client can have this source address",
        Counter::Unroutable => "there is no address of this node to give to the packet",
        Counter::PortsExhausted => "no source port is free",
        Counter::FlowTableFull => "the flow table has no room",
        Counter::EndpointGone => "the connection's endpoint has been gone for long",
        Counter::RateLimited => "too many resets or ICMP errors were sent in this second",
        _ => return None,
    })
}
