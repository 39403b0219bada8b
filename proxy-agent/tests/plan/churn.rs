//! A long life: objects change, go and come under other names, and at the end there
//! is as much as at the beginning.

use proxy_agent::agent::Agent;
use proxy_agent::model::object::{Change, ObjectName};
use proxy_agent::status::DevicesReport;

use crate::heap;
use crate::objects::{Nowhere, agent, reclaim_all, service, slice};

const SERVICES: u16 = 100;
const ENDPOINTS: usize = 10;
/// Until every table has had its largest size.
const WARM_UP: u32 = 20_000;
const CHANGES: u32 = 40_000;
/// Changes between two grace periods.
const GRACE: u32 = 16;

/// Services that change at random, but repeatably.
struct World {
    agent: Agent<Nowhere>,
    names: Vec<ObjectName>,
    /// The next number that no endpoint or name had before.
    next: u32,
    random: u32,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            agent: agent(Nowhere, []),
            names: Vec::new(),
            next: 0,
            random: 1,
        };
        for at in 0..SERVICES {
            let name = world.new_name();
            world.agent.apply([service(&name, at, None)]);
            world.names.push(name);
        }
        world.settle();
        world
    }

    /// A linear congruential generator (Numerical Recipes).
    fn random_below(&mut self, limit: u32) -> u32 {
        self.random = self
            .random
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.random >> 16) % limit
    }

    fn new_number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Namespaces come and go too.
    fn new_name(&mut self) -> ObjectName {
        let number = self.new_number();
        ObjectName::new(format!("n{}", number / 10), format!("s{number}"))
    }

    fn new_slice(&mut self, at: usize, endpoints: usize) -> Change {
        let numbers: Vec<_> = (0..endpoints).map(|_| self.new_number()).collect();
        slice(&self.names[at], &numbers)
    }

    /// One change of one object, or a Service in the place of another.
    fn change(&mut self) {
        let place = u16::try_from(self.random_below(SERVICES.into())).unwrap();
        let at = usize::from(place);
        if self.random_below(10) == 0 {
            let new = self.new_name();
            let old = std::mem::replace(&mut self.names[at], new);
            self.agent.apply([
                Change::ServiceGone(old.clone()),
                Change::EndpointSliceGone(old),
                service(&self.names[at], place, None),
            ]);
        }
        let endpoints = usize::try_from(self.random_below(20)).unwrap();
        let slice = self.new_slice(at, endpoints);
        self.agent.apply([slice]);
        self.program();
    }

    /// Programs, and takes what the agent has for others, as its loop does.
    fn program(&mut self) {
        self.agent.program();
        self.agent.take_health_checks();
        self.agent.take_events();
    }

    fn live_through(&mut self, changes: u32) {
        for change in 0..changes {
            self.change();
            if change % GRACE == 0
                && let Some(retired) = self.agent.take_retired()
            {
                self.agent.reclaim(retired);
            }
        }
    }

    /// Gives every Service the same number of endpoints, so that two moments compare.
    fn settle(&mut self) {
        for at in 0..self.names.len() {
            let slice = self.new_slice(at, ENDPOINTS);
            self.agent.apply([slice]);
        }
        self.program();
        reclaim_all(&mut self.agent);
    }

    /// Elements in use, by map.
    fn used(&self) -> Vec<(&'static str, u64)> {
        let report = self.agent.report(DevicesReport::default(), Vec::new());
        report.maps.iter().map(|map| (map.map, map.used)).collect()
    }
}

#[test]
fn a_long_churn_leaves_maps_and_memory_as_they_were() {
    let mut world = World::new();
    let (services, endpoints) = (u64::from(SERVICES), u64::from(SERVICES) * ENDPOINTS as u64);
    let used = [
        ("FRONTENDS_V4", services),
        ("FRONTENDS_V6", 0),
        ("BACKENDS_V4", endpoints),
        ("BACKENDS_V6", 0),
        ("SLOTS", endpoints),
    ];
    assert_eq!(world.used(), used);
    world.live_through(WARM_UP);
    world.settle();
    let before = heap::live();
    world.live_through(CHANGES);
    world.settle();
    assert_eq!(world.used(), used);
    let after = heap::live();
    println!("{before} bytes before, {after} after");
    assert!(before > 0, "the heap is counted");
    assert!(
        after < before + before / 10,
        "{before} bytes became {after}"
    );
}
