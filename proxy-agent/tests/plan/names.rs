//! The names of Service ports in the maps.

use std::collections::BTreeMap;
use std::sync::Arc;

use proxy_agent::agent::Agent;
use proxy_agent::maps::{FakeMaps, Maps, Readable};
use proxy_agent::model::object::{Change, ObjectName};
use proxy_agent::plan::WrittenElement;
use proxy_agent::status::DevicesReport;

use crate::objects::{agent, reclaim_all, service, slice};
use crate::view::{Fault, Filmed, view};

fn objects() -> [Change; 2] {
    let name = ObjectName::new("default", "web");
    [service(&name, 1, None), slice(&name, &[1, 2])]
}

fn names(maps: &mut impl Readable) -> BTreeMap<u32, Arc<str>> {
    maps.read().unwrap().service_names
}

fn web() -> BTreeMap<u32, Arc<str>> {
    BTreeMap::from([(0, Arc::from("default/web"))])
}

fn adopted<M: Maps + Readable>(maps: M) -> Agent<M> {
    let mut agent = Agent::new("here", &proxy_agent::config::Settings::default(), maps);
    agent.adopt().unwrap();
    agent.apply(objects());
    agent.apply(crate::objects::start());
    agent.program();
    agent
}

#[test]
fn a_name_comes_and_goes_with_its_service_port() {
    let mut agent = agent(FakeMaps::default(), objects());
    assert_eq!(names(agent.maps_mut()), web());
    agent.apply([Change::ServiceGone(ObjectName::new("default", "web"))]);
    agent.program();
    reclaim_all(&mut agent);
    assert_eq!(names(agent.maps_mut()), BTreeMap::new());
}

#[test]
fn names_are_filled_in_where_an_older_agent_has_left_none() {
    let mut maps = agent(FakeMaps::default(), objects()).into_maps();
    maps.service_names.clear();
    let mut agent = adopted(maps);
    assert_eq!(names(agent.maps_mut()), web());
}

#[test]
fn a_name_that_is_there_is_not_written_again() {
    let maps = agent(FakeMaps::default(), objects()).into_maps();
    let mut agent = adopted(Filmed::of(maps));
    let film = agent.maps().film.take();
    let is_name = |element| matches!(element, WrittenElement::ServiceName(_));
    assert!(!film.iter().any(|(write, _)| is_name(write.element())));
    assert_eq!(names(agent.maps_mut()), web());
}

#[test]
fn a_map_without_room_for_a_name_costs_nothing_but_the_name() {
    let maps = Filmed::default();
    maps.fault
        .replace(Fault::Element(WrittenElement::ServiceName(0)));
    let mut agent = agent(maps, objects());
    let served: Vec<_> = view(&agent.maps().maps).into_values().collect();
    assert_eq!(served[0].as_ref().unwrap().cluster.len(), 2);
    let report = agent.report(DevicesReport::default(), Vec::new());
    assert!(report.families.iter().all(|it| it.pending_for.is_none()));
    assert!(agent.take_events().is_empty());

    agent.maps().fault.replace(Fault::None);
    agent.audit();
    assert_eq!(names(agent.maps_mut()), web());
}
