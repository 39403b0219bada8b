//! A client's packet goes to an endpoint, and the endpoint's answer comes back as
//! if from the frontend.

use std::net::SocketAddr;

use proptest::prelude::*;
use proxy_tests::lab::Family;
use proxy_tests::packets::{Choices, Frontend, Hook, Packet, Protocol, Scenario};

use super::world::{World, at};
use crate::host::Action;

/// How a flow's packets have to travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Travel {
    /// By the stack, with the client's own address.
    Stack,
    /// Sent on with the node's address.
    SentOn,
    /// Back where it came from, with the node's address.
    Returned,
}

/// Who talks to whom.
struct Cast {
    client: SocketAddr,
    service: SocketAddr,
    backend: SocketAddr,
    scenario: Scenario,
}

impl Cast {
    fn random(choices: &mut Choices<'_>) -> Self {
        let family = choices.one_of(&Family::BOTH);
        let mut endpoint = |network| at(family, network, choices.byte(), choices.short().max(1));
        let (client, service, backend) = (endpoint(7), endpoint(9), endpoint(2));
        Self {
            client,
            service,
            backend,
            scenario: Scenario::empty(),
        }
    }

    /// Sends a random packet and a random answer, and compares them whole.
    fn talk(&self, choices: &mut Choices<'_>, hook: Hook, local: bool, travel: Travel) {
        let mut scenario = self.scenario.clone();
        let backend = scenario.add_backend(self.backend, local);
        for protocol in Protocol::ALL {
            let frontend = Frontend::new(self.service, protocol, vec![backend]);
            scenario.frontends.push(frontend);
        }
        let world = World::new(&scenario);
        let mut packet = Packet::random(choices, self.client, self.service);
        if choices.seldom(4) {
            packet.link = None;
        }
        let (action, bytes) = world.send(hook, &packet);
        let (source, _) = packet.endpoints_in(&bytes);
        self.check_source(&scenario, source, travel);
        let expected = packet.between(source, self.backend);
        check(&travelled(expected, travel), travel, action, &bytes);

        // More than one, since the first has a shape of its own.
        for _ in 0..2 {
            let again = packet.reshaped(choices);
            let (action, bytes) = world.send(hook, &again);
            let expected = again.between(source, self.backend);
            check(&travelled(expected, travel), travel, action, &bytes);

            let answer = packet.answer(self.backend, source).reshaped(choices);
            let back = match travel {
                Travel::Stack => Hook::Out,
                _ => hook,
            };
            let (action, bytes) = world.send(back, &answer);
            let expected = answer.between(self.service, self.client);
            check(&travelled(expected, travel), travel, action, &bytes);
        }
    }

    /// The client's own address and port, or the node's with a port of the range.
    fn check_source(&self, scenario: &Scenario, source: SocketAddr, travel: Travel) {
        if travel == Travel::Stack {
            assert_eq!(source, self.client);
            return;
        }
        assert!(scenario.node.contains(&source.ip()), "{source}");
        let (first, count) = scenario.nat_ports;
        assert!((first..first + count).contains(&source.port()), "{source}");
    }
}

fn travelled(packet: Packet, travel: Travel) -> Packet {
    match travel {
        Travel::Stack => packet,
        Travel::SentOn => packet.sent_on(),
        Travel::Returned => packet.sent_on().turned_back(),
    }
}

fn check(expected: &Packet, travel: Travel, action: Action, bytes: &[u8]) {
    let wanted = match travel {
        Travel::Stack => Action::Pass,
        Travel::SentOn => Action::Forward,
        Travel::Returned => Action::Bounce,
    };
    assert_eq!(action, wanted);
    assert_eq!(bytes, expected.build(), "is not {expected:?}");
}

fn chance() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..256)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn with_an_endpoint_of_this_node(bytes in chance()) {
        let mut choices = Choices::new(&bytes);
        let cast = Cast::random(&mut choices);
        let hook = choices.one_of(&[Hook::FromOutside, Hook::FromPod]);
        cast.talk(&mut choices, hook, true, Travel::Stack);
    }

    #[test]
    fn of_a_pod_with_an_endpoint_of_another_node(bytes in chance()) {
        let mut choices = Choices::new(&bytes);
        let cast = Cast::random(&mut choices);
        cast.talk(&mut choices, Hook::FromPod, false, Travel::Stack);
    }

    #[test]
    fn from_outside_with_an_endpoint_of_another_node(bytes in chance()) {
        let mut choices = Choices::new(&bytes);
        let cast = Cast::random(&mut choices);
        cast.talk(&mut choices, Hook::FromOutside, false, Travel::SentOn);
    }

    #[test]
    fn where_all_is_masqueraded(bytes in chance()) {
        let mut choices = Choices::new(&bytes);
        let mut cast = Cast::random(&mut choices);
        cast.scenario.masquerade_all = true;
        cast.talk(&mut choices, Hook::FromOutside, true, Travel::SentOn);
    }

    #[test]
    fn of_a_pod_with_itself(bytes in chance()) {
        let mut choices = Choices::new(&bytes);
        let mut cast = Cast::random(&mut choices);
        cast.client.set_ip(cast.backend.ip());
        cast.talk(&mut choices, Hook::FromPod, true, Travel::Returned);
    }
}
