//! The node on which frames arrive: the usual scenario, in maps in memory.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use proxy_ebpf::host::{self, Action, Frame, Link, Memory, Shared};
use proxy_ebpf::layout::{
    Address, Backend, Counter, Frontend, FrontendKey, Port, Settings, Span, V4, V6, backend_flags,
    frontend_flags, settings_flags,
};
use proxy_ebpf::pipeline::Client;
use proxy_tests::packets::{Hook, Scenario, Step};

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
        let scenario = Scenario::usual();
        let shared = Rc::new(Shared::default());
        shared.random.set(u32::from(state[0]) + 1);
        if state[1] & 1 == 1 {
            shared.flow_capacity.set(usize::from(state[1] >> 1));
        }
        let mut node = Self {
            v4: Memory {
                shared: Rc::clone(&shared),
                ..Memory::default()
            },
            v6: Memory {
                shared,
                ..Memory::default()
            },
        };
        let ports = match state[2] {
            0 => scenario.nat_ports.1,
            few => u16::from(few) - 1,
        };
        let flags = if state[3] & 1 == 1 {
            settings_flags::MASQUERADE_ALL
        } else {
            0
        };
        let all = (scenario.nat_ports.0..).take(ports.into());
        let nat_ports = all.map(Port::new).collect();
        node.v4.shared.nat_ports.replace(nat_ports);
        fill(&mut node.v4, &scenario, ports, flags, v4);
        fill(&mut node.v6, &scenario, ports, flags, v6);
        node
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

    /// How many packets could not be changed as they should have been.
    pub fn failed_rewrites(&self) -> u64 {
        // Both memories count in one place.
        self.v4.counter(Counter::RewriteFailed)
    }

    /// Runs a frame through the pipeline.
    pub fn run(&self, step: &Step) -> (Action, Vec<u8>) {
        let mut frame = Frame(step.frame.clone());
        let hook = match step.hook {
            Hook::FromPod => host::Hook::Ingress(Client::Pod),
            Hook::FromOutside => host::Hook::Ingress(Client::Outside),
            Hook::Out => host::Hook::Egress,
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

fn is_empty<A>(memory: &Memory<A>) -> bool {
    memory.flows.borrow().is_empty() && memory.opening.borrow().is_empty()
}

fn step_generation<A>(memory: &mut Memory<A>, event: u8) {
    if let Some(backend) = memory.backends.get_mut(&u32::from(event & 15)) {
        backend.generation = backend.generation.wrapping_add(1);
    }
}

fn v4(address: IpAddr) -> Option<V4> {
    match address {
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: IpAddr) -> Option<V6> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address.into()),
    }
}

/// Writes the part of the scenario that is of one family.
fn fill<A: Address>(
    memory: &mut Memory<A>,
    scenario: &Scenario,
    nat_ports: u16,
    flags: u32,
    of_family: impl Fn(IpAddr) -> Option<A>,
) {
    let place = |address: SocketAddr| Some((of_family(address.ip())?, Port::new(address.port())));
    let own: Vec<A> = scenario.node.iter().copied().filter_map(&of_family).collect();
    memory.settings = Settings {
        node_address: own.first().copied().unwrap_or_default(),
        nat_ports: nat_ports.into(),
        service_ranges: Default::default(),
        flags,
    };
    memory.node_addresses.extend(own);
    for (index, backend) in (0..).zip(&scenario.backends) {
        if let Some((address, port)) = place(backend.address) {
            let element = Backend {
                address,
                port,
                flags: if backend.local {
                    backend_flags::LOCAL
                } else {
                    0
                },
                generation: 1,
                service: 0,
            };
            memory.backends.insert(index, element);
        }
    }
    for (service, frontend) in (0..).zip(&scenario.frontends) {
        let Some((address, port)) = place(frontend.address) else {
            continue;
        };
        let key = FrontendKey::new(address, port, frontend.protocol.number());
        let external = if frontend.external {
            frontend_flags::EXTERNAL
        } else {
            0
        };
        let local = if frontend.local_policy {
            frontend_flags::LOCAL_POLICY
        } else {
            0
        };
        let direct = if frontend.direct {
            frontend_flags::DSR
        } else {
            0
        };
        let value = Frontend {
            service,
            flags: external | local | direct,
            affinity_seconds: 0,
            cluster: add_span(memory, &frontend.cluster),
            local: add_span(memory, &frontend.local),
        };
        memory.frontends.insert(key, value);
    }
}

/// Puts a set behind what is there.
fn add_span<A>(memory: &Memory<A>, set: &[usize]) -> Span {
    let mut slots = memory.shared.slots.borrow_mut();
    let start = slots
        .last_key_value()
        .map_or(0, |(position, _)| position + 1);
    slots.extend((start..).zip(set.iter().map(|backend| *backend as u32)));
    Span {
        start,
        len: set.len() as u32,
    }
}
