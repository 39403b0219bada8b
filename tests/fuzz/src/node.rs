//! The node on which frames arrive: the usual scenario, in maps in memory.

use proxy_ebpf::host::{self, Action, Frame, Link, Memory};
use proxy_ebpf::layout::{Address, Counter, V4, V6};
use proxy_ebpf::pipeline::Client;
use proxy_tests::packets::{Hook, Scenario, Step};

use crate::maps::maps;

pub struct Node {
    v4: Memory<V4>,
    v6: Memory<V6>,
}

/// Whether a packet that begins with an IP header is given to the programs as IPv4.
pub fn is_ipv4(frame: &[u8]) -> bool {
    frame.first().is_none_or(|first| first >> 4 != 6)
}

impl Node {
    /// A node whose settings are chosen by `state`.
    pub fn new(state: [u8; 4]) -> Self {
        let mut scenario = Scenario::usual();
        if state[2] != 0 {
            scenario.nat_ports.1 = u16::from(state[2]) - 1;
        }
        scenario.masquerade_all = state[3] & 1 == 1;
        let (mut v4, mut v6) = maps(&scenario);
        v4.shared.random.set(u32::from(state[0]) + 1);
        if state[1] & 1 == 1 {
            v4.set_buckets(u32::from(state[1] >> 1));
            v6.set_buckets(u32::from(state[1] >> 1));
        }
        Self { v4, v6 }
    }

    /// Time passes, or endpoints end and begin.
    pub fn happen(&mut self, event: u8) {
        let shared = &self.v4.shared;
        match event >> 6 {
            0 => shared
                .now
                .set(shared.now.get().wrapping_add(u32::from(event))),
            1 => shared
                .now
                .set(shared.now.get().wrapping_add(u32::from(event) << 11)),
            2 => step_generation(&mut self.v4, event),
            _ => step_generation(&mut self.v6, event),
        }
    }

    /// Whether no packet can belong to a flow.
    pub fn has_no_flows(&self) -> bool {
        is_empty(&self.v4) && is_empty(&self.v6)
    }

    /// How many packets were changed before it was known whether they can be delivered: those
    /// whose change failed half-way, and those that were taken out of a tunnel, for which there
    /// may be no room in the flow table.
    pub fn begun_changes(&self) -> u64 {
        // Both memories count in one place.
        self.v4.counter(Counter::RewriteFailed) + self.v4.counter(Counter::Decapsulated)
    }

    /// Runs a frame through the pipeline.
    pub fn run(&self, step: &Step) -> (Action, Vec<u8>) {
        let mut frame = Frame(step.frame.clone());
        let hook = match step.hook {
            Hook::FromPod => host::Hook::Ingress(Client::Pod),
            Hook::FromOutside => host::Hook::Ingress(Client::Outside),
            Hook::Out => host::Hook::Egress(Client::Outside),
            Hook::FromHost => host::Hook::Egress(Client::Host),
        };
        let link = match (step.bare, is_ipv4(&step.frame)) {
            (false, _) => Link::Ethernet,
            (true, true) => Link::Ip(V4::ETHERTYPE),
            (true, false) => Link::Ip(V6::ETHERTYPE),
        };
        let action = host::run(&mut frame, hook, link, &self.v4, &self.v6);
        (action, frame.0)
    }
}

fn is_empty<A: Address>(memory: &Memory<A>) -> bool {
    memory.records().next().is_none()
}

fn step_generation<A>(memory: &mut Memory<A>, event: u8) {
    if let Some(backend) = memory.backends.get_mut(&u32::from(event & 15)) {
        backend.generation = backend.generation.wrapping_add(1);
    }
}
