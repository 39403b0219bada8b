//! Maps that somebody else has written to: what is found and reconciled.

use std::cell::RefCell;
use std::rc::Rc;

use proxy_agent::agent::Agent;
use proxy_agent::maps::{FakeMaps, MapError, Maps, Readable};
use proxy_agent::model::object::{Change, ObjectName, Service};
use proxy_agent::plan::{Content, Write};
use proxy_ebpf::layout::{Frontend, FrontendKey, Port, Range, ServiceName, V4, protocol};

use crate::objects::{agent, service, slice};

/// Maps that the test can reach as well.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<FakeMaps>>);

impl Maps for Shared {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        self.0.borrow_mut().write(write)
    }
}

impl Readable for Shared {
    fn read(&mut self) -> Result<Content, MapError> {
        self.0.borrow_mut().read()
    }
}

/// What the maps hold, so that it can be compared.
fn shown(maps: &Shared) -> Vec<String> {
    let content = maps.clone().read().unwrap();
    let lines = [
        content
            .frontends
            .iter()
            .map(|it| format!("{it:?}"))
            .collect::<Vec<_>>(),
        content
            .backends
            .iter()
            .map(|it| format!("{it:?}"))
            .collect(),
        content
            .source_ranges
            .iter()
            .map(|it| format!("{it:?}"))
            .collect(),
        vec![
            format!("{:?}", content.service_names),
            format!("{:?}", content.slots),
            format!("{:?}", content.cluster_ips),
            format!("{:?}", content.node_addresses),
            format!("{:?}", content.settings),
        ],
    ];
    let mut lines = lines.concat();
    lines.sort();
    lines
}

/// An agent that serves Services of all kinds, one of which has lost an endpoint.
fn serving(maps: &Shared) -> Agent<Shared> {
    let name = |at: u16| ObjectName::new("default", format!("s{at}"));
    let with = |at: u16, change: fn(&mut Service)| match service(&name(at), at, Some(30_000)) {
        Change::Service(mut service) => {
            change(&mut service);
            Change::Service(service)
        }
        other => other,
    };
    let mut agent = agent(
        maps.clone(),
        [
            with(1, |it| it.affinity = Some(60)),
            slice(&name(1), &[1, 2, 3]),
            with(2, |it| {
                it.ports[0].node_port = 0;
                it.load_balancer_ips = vec!["198.51.100.1".to_owned()];
                it.source_ranges = vec!["203.0.113.0/24".to_owned()];
            }),
            slice(&name(2), &[4, 5]),
        ],
    );
    agent.apply([slice(&name(1), &[1, 3])]);
    agent.program();
    agent
}

fn frontend() -> FrontendKey<V4> {
    let address = std::net::Ipv4Addr::new(10, 96, 0, 1).into();
    FrontendKey::new(address, Port::new(80), protocol::TCP)
}

/// What somebody else writes.
type Drift = fn(&mut FakeMaps);

#[test]
fn what_somebody_else_wrote_is_mended() {
    let drifts: [(&str, Drift); 18] = [
        ("nothing", |_| {}),
        ("a frontend is gone", |maps| {
            maps.v4.frontends.remove(&frontend());
        }),
        ("a frontend leads elsewhere", |maps| {
            maps.v4.frontends.get_mut(&frontend()).unwrap().cluster.len = 1;
        }),
        ("a frontend too many", |maps| {
            let key = FrontendKey::new(V4::default(), Port::new(31_000), protocol::UDP);
            maps.v4.frontends.insert(key, Frontend::default());
        }),
        ("a backend's address", |maps| {
            maps.v4.backends.get_mut(&0).unwrap().port = Port::new(9);
        }),
        ("a backend's sets", |maps| {
            maps.v4.backends.get_mut(&0).unwrap().flags = 0;
        }),
        ("a backend that has ended", |maps| {
            maps.v4.backends.get_mut(&0).unwrap().generation += 1;
        }),
        ("a backend that lives again", |maps| {
            let ended = maps.v4.backends.values_mut();
            let mut ended = ended.filter(|it| it.generation & 1 == 0);
            ended.next().unwrap().generation += 1;
        }),
        ("a backend was erased", |maps| {
            maps.v4.backends.remove(&0);
        }),
        ("a slot", |maps| {
            *maps
                .v4
                .shared
                .slots
                .borrow_mut()
                .values_mut()
                .next_back()
                .unwrap() += 1;
        }),
        ("a range of sources is gone", |maps| {
            maps.v4.source_ranges.clear();
        }),
        ("a range of sources too many", |maps| {
            let (prefix, mut range) = *maps.v4.source_ranges.iter().next().unwrap();
            range.service += 1;
            maps.v4.source_ranges.insert((prefix, range));
        }),
        ("a name is gone", |maps| {
            maps.service_names.clear();
        }),
        ("a name too many", |maps| {
            maps.service_names.insert(7, ServiceName::new("any/thing"));
        }),
        ("a ClusterIP is gone", |maps| {
            maps.v4.cluster_ips.clear();
        }),
        ("a ClusterIP too many", |maps| {
            maps.v4.cluster_ips.insert(V4([7]));
        }),
        ("an address of the node too many", |maps| {
            maps.v4.node_addresses.insert(V4([7]));
        }),
        ("the settings", |maps| {
            let current = &mut maps.v4.current_settings;
            current.values[current.index as usize].service_cidrs[0] = Range {
                first: V4([7]),
                mask: V4([u32::MAX]),
            };
        }),
    ];
    for (name, drift) in drifts {
        let maps = Shared::default();
        let mut agent = serving(&maps);
        let before = shown(&maps);
        drift(&mut maps.0.borrow_mut());
        if name != "nothing" {
            assert_ne!(shown(&maps), before, "{name}: this is no drift");
        }
        agent.audit();
        assert_eq!(shown(&maps), before, "{name}");
        agent.audit();
        assert_eq!(shown(&maps), before, "{name}, looked over again");
    }
}
