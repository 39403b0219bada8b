//! What objects cost: writes to the maps for a change, and bytes of the heap for what is
//! served, counted.

use std::cell::RefCell;
use std::sync::Arc;

use proxy_agent::agent::Agent;
use proxy_agent::maps::{MapError, Maps};
use proxy_agent::model::object::{Change, ObjectName, ServicePort};
use proxy_agent::plan::Write;

use crate::heap;
use crate::objects::{Nowhere, agent, service, slice};

const ENDPOINTS: u32 = 10;

/// Maps that only keep a list of what is written.
#[derive(Default)]
struct Listed(RefCell<Vec<Write>>);

impl Maps for Listed {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        self.0.get_mut().push(write.clone());
        Ok(())
    }
}

fn name(at: u16) -> ObjectName {
    ObjectName::new("default", format!("s{at}"))
}

fn endpoints(at: u16) -> Vec<u32> {
    some_endpoints(at, ENDPOINTS)
}

fn some_endpoints(at: u16, count: u32) -> Vec<u32> {
    let first = u32::from(at) * count;
    (first..first + count).collect()
}

/// An agent that serves this many Services; the first has a NodePort too.
fn serving(services: u16) -> Agent<Listed> {
    let all = (0..services).flat_map(|at| {
        let node_port = (at == 0).then_some(30_000);
        [
            service(&name(at), at, node_port),
            slice(&name(at), &endpoints(at)),
        ]
    });
    agent(Listed::default(), all)
}

/// What is written when one endpoint of Service `at` is replaced: writes, and slots
/// in them.
fn cost_of_an_endpoint(agent: &mut Agent<Listed>, at: u16) -> (usize, usize) {
    agent.maps().0.borrow_mut().clear();
    let mut changed = endpoints(at);
    changed[3] = 0x7f_fff0;
    agent.apply([slice(&name(at), &changed)]);
    agent.program();
    let writes = agent.maps().0.borrow();
    let slots = writes.iter().map(|write| match write {
        Write::Slots { backends, .. } => backends.len(),
        _ => 0,
    });
    (writes.len(), slots.sum())
}

#[test]
fn one_changed_endpoint_costs_the_same_among_ten_and_ten_thousand_services() {
    for services in [10, 1000, 10_000] {
        let mut agent = serving(services);
        // The new backend, one run of slots, the frontend, the end of the old backend.
        let slots = usize::try_from(ENDPOINTS).unwrap();
        assert_eq!(cost_of_an_endpoint(&mut agent, 7), (4, slots), "{services}");
        // The same with a NodePort as well.
        assert_eq!(cost_of_an_endpoint(&mut agent, 0), (5, slots), "{services}");
    }
}

#[test]
fn an_object_that_is_reported_anew_costs_nothing() {
    let mut agent = serving(100);
    agent.maps().0.borrow_mut().clear();
    agent.apply((1..100).flat_map(|at| {
        [
            service(&name(at), at, None),
            slice(&name(at), &endpoints(at)),
        ]
    }));
    agent.program();
    assert_eq!(*agent.maps().0.borrow(), []);
}

/// Bytes of the heap for a Service with one port, and for an endpoint of it, with what the
/// tables that hold them have to spare. Who makes them more says why.
const BYTES: [(&str, i64); 2] = [("Service", 1190), ("endpoint", 60)];

/// Bytes that an agent has on the heap that serves so many Services.
fn heap_of(services: u16, endpoints: u32) -> i64 {
    let before = heap::live();
    let all = (0..services).flat_map(|at| {
        let slice = slice(&name(at), &some_endpoints(at, endpoints));
        [service(&name(at), at, None), slice]
    });
    let agent = agent(Nowhere, all);
    let after = heap::live();
    drop(agent);
    i64::try_from(after - before).unwrap()
}

/// Bytes of the heap for a Service with as many ports as external IPs that are not allowed, for
/// each port: never as many as both multiplied.
const BYTES_OF_A_PORT: i64 = 640;

#[test]
fn external_ips_that_are_not_allowed_take_no_memory_for_each_port() {
    const MANY: u16 = 2000;
    let Change::Service(mut large) = service(&name(0), 0, None) else {
        panic!("not a Service");
    };
    large.external_ips = (0..MANY)
        .map(|at| format!("203.0.{}.{}", at / 250, at % 250 + 1))
        .collect();
    let port = large.ports[0].clone();
    large.ports = (1..=MANY)
        .map(|number| ServicePort {
            name: Arc::from(format!("p{number}")),
            port: number.into(),
            ..port.clone()
        })
        .collect();
    let before = heap::live();
    let agent = agent(Nowhere, [Change::Service(large)]);
    let taken = i64::try_from(heap::live() - before).unwrap();
    drop(agent);
    println!("{taken} bytes, {} for each port", taken / i64::from(MANY));
    assert!(taken < i64::from(MANY) * BYTES_OF_A_PORT, "{taken} bytes");
}

#[test]
fn a_service_and_an_endpoint_take_as_many_bytes_as_are_written_down() {
    // Tables double: between powers of two each is as full as before.
    let (few, many) = (2048, 4096);
    let endpoints = i64::from(ENDPOINTS);
    let [small, large, wide] = [(few, ENDPOINTS), (many, ENDPOINTS), (few, 2 * ENDPOINTS)]
        .map(|(services, endpoints)| heap_of(services, endpoints));
    let endpoint = (wide - small) / (i64::from(few) * endpoints);
    let service = (large - small) / i64::from(many - few) - endpoints * endpoint;
    let found = [("Service", service), ("endpoint", endpoint)];
    for ((what, most), (_, found)) in BYTES.into_iter().zip(found) {
        assert!(
            found <= most && most <= found + found / 10,
            "{what}: {found} bytes, written down are {most}"
        );
    }
}
