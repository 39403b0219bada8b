//! What a change costs: writes to the maps, counted.

use std::cell::RefCell;

use proxy_agent::agent::Agent;
use proxy_agent::maps::{MapError, Maps};
use proxy_agent::model::object::ObjectName;
use proxy_agent::plan::Write;

use crate::objects::{agent, service, slice};

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
    let first = u32::from(at) * ENDPOINTS;
    (first..first + ENDPOINTS).collect()
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
