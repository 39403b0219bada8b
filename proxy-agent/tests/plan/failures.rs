//! Writes that fail: whatever fails, each frontend has a state that it was to have, what
//! has nothing to do with it goes on, and nothing is lost when it works again.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use proxy_agent::agent::Agent;
use proxy_agent::maps::FakeMaps;
use proxy_agent::model::object::{Family, ObjectName};
use proxy_agent::plan::{Retired, WrittenElement};
use proxy_agent::status::DevicesReport;
use proxy_ebpf::layout::{FrontendKey, Port, V4};

use crate::histories::{Objects, Step, agent_on, steps, successor};
use crate::objects::{agent, service, slice};
use crate::view::{Fault, Filmed, Key, Served, beside, living, view};

/// A history in which one write fails, and all that follow to the same element.
struct Run {
    agent: Agent<Filmed>,
    objects: Objects,
    waiting: Option<Retired>,
    /// What each frontend was to be at some time.
    wanted: BTreeMap<Key, Vec<Served>>,
}

impl Run {
    fn new(fault: Fault) -> Self {
        let mut run = Self {
            agent: agent_on(FakeMaps::default(), false),
            objects: Objects::default(),
            waiting: None,
            wanted: BTreeMap::new(),
        };
        run.agent.apply(run.objects.all());
        run.agent.maps().fault.replace(fault);
        run
    }

    /// The maps as they should be.
    fn fresh(&self) -> Agent<Filmed> {
        let mut fresh = agent_on(FakeMaps::default(), false);
        fresh.apply(self.objects.all());
        fresh.program();
        fresh
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Program => self.program(),
            Step::Grace => {
                self.grace();
                self.check()
            }
            Step::Relist => {
                self.agent.apply(self.objects.all());
                Ok(())
            }
            Step::Restart => self.restart(),
            Step::Reset | Step::Crash(_) => Ok(()),
            change => {
                self.agent.apply(self.objects.take(change));
                Ok(())
            }
        }
    }

    fn program(&mut self) -> Result<(), TestCaseError> {
        for (key, served) in view(&self.fresh().maps().maps) {
            self.wanted.entry(key).or_default().extend(served);
        }
        self.agent.program();
        self.agent.audit();
        self.check()
    }

    fn grace(&mut self) {
        // A period that has begun covers what was retired before it.
        if let Some(retired) = self.waiting.take() {
            self.agent.reclaim(retired);
        }
        self.waiting = self.agent.take_retired();
    }

    /// Another agent goes on from the maps, which refuse what they did.
    fn restart(&mut self) -> Result<(), TestCaseError> {
        self.waiting = None;
        let old = std::mem::replace(&mut self.agent, agent_on(FakeMaps::default(), false));
        let fault = old.maps().fault.borrow().clone();
        let tried = old.maps().tried.get();
        self.agent = successor(old.into_maps().maps, &self.objects, false)?;
        self.agent.maps().fault.replace(fault);
        self.agent.maps().tried.set(tried);
        Ok(())
    }

    /// Every picture since the last call shows only what was wanted.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for (write, picture) in self.agent.maps().film.take() {
            for (key, served) in picture {
                let served = served
                    .map_err(|reason| TestCaseError::fail(format!("after {write:?}: {reason}")))?;
                let wanted = self.wanted.get(&key).is_some_and(|it| it.contains(&served));
                prop_assert!(wanted, "{key:?} was never to be {served:?} ({write:?})");
            }
        }
        Ok(())
    }

    /// The map works again: all is as it would be if it always had.
    fn recover(mut self) -> Result<usize, TestCaseError> {
        let tried = self.agent.maps().tried.get();
        self.agent.maps().fault.replace(Fault::None);
        self.agent.retry();
        self.check()?;
        self.program()?;
        let report = self.agent.report(DevicesReport::default(), Vec::new());
        let is_pending = report.families.iter().any(|it| it.pending_for.is_some());
        prop_assert!(!is_pending, "all is written");
        let fresh = self.fresh();
        let (maps, fresh) = (&self.agent.maps().maps, &fresh.maps().maps);
        prop_assert_eq!(view(maps), view(fresh));
        prop_assert_eq!(beside(maps), beside(fresh));
        prop_assert_eq!(living(maps), living(fresh));

        self.agent.maps().film.take();
        self.agent.audit();
        let film = self.agent.maps().film.take();
        let repairs: Vec<_> = film.into_iter().map(|(write, _)| write).collect();
        prop_assert_eq!(repairs, [], "the maps hold what was planned");

        self.agent.apply(self.objects.gone());
        self.agent.program();
        (0..4).for_each(|_| self.grace());
        let report = self.agent.report(DevicesReport::default(), Vec::new());
        for map in report.maps {
            prop_assert_eq!(map.used, 0, "{} is not empty", map.map);
        }
        Ok(tried)
    }
}

/// Lives through a history; how many writes were tried.
fn live(steps: &[Step], fault: Fault) -> Result<usize, TestCaseError> {
    let mut run = Run::new(fault);
    for step in steps {
        run.step(step)?;
    }
    run.program()?;
    run.recover()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whichever_write_fails_old_state_stays_until_all_of_the_new_can_be(steps in steps(16)) {
        let writes = live(&steps, Fault::None)?;
        for at in 0..writes {
            live(&steps, Fault::Write(at)).map_err(|error| {
                TestCaseError::fail(format!("the write {at} of {writes} fails: {error}"))
            })?;
        }
    }
}

/// Two Services; of one nothing can be written, of the other everything.
#[test]
fn what_is_stuck_holds_up_nothing_else() {
    let [stuck, free] = ["a", "b"].map(|name| ObjectName::new("default", name));
    let mut agent = agent(
        Filmed::default(),
        [
            service(&stuck, 1, None),
            slice(&stuck, &[1, 2]),
            service(&free, 2, None),
            slice(&free, &[3, 4]),
        ],
    );
    let host = |word: u32| word.to_ne_bytes()[3];
    let served = |agent: &Agent<Filmed>| -> Vec<Vec<u8>> {
        let view = view(&agent.maps().maps).into_values();
        view.map(|served| {
            let cluster = served.unwrap().cluster;
            cluster.iter().map(|it| host(it.0[0])).collect()
        })
        .collect()
    };
    assert_eq!(served(&agent), [[1, 2], [3, 4]]);
    let backend = |agent: &Agent<Filmed>, wanted: u8| {
        let mut backends = agent.maps().maps.v4.backends.iter();
        let found = backends.find(|(_, it)| host(it.address.0[0]) == wanted);
        *found.unwrap().0
    };

    // The next that is used.
    let next = WrittenElement::Backend(Family::V4, 4);
    agent.maps().fault.replace(Fault::Element(next));
    agent.apply([slice(&stuck, &[2, 5])]);
    agent.program();
    assert_eq!(
        served(&agent),
        [[1, 2], [3, 4]],
        "neither slots nor frontends"
    );
    let events = agent.take_events();
    assert!(
        events.iter().any(|it| it.reason == "NotProgrammed"),
        "{events:?}"
    );

    agent.apply([slice(&free, &[4, 6])]);
    agent.program();
    assert_eq!(served(&agent), [[1, 2], [4, 6]]);
    let old = backend(&agent, 3);
    let retired = agent.take_retired().unwrap();
    agent.reclaim(retired);
    agent.apply([slice(&free, &[4, 7])]);
    agent.program();
    assert_eq!(backend(&agent, 7), old, "what was replaced is used again");

    let gone = FrontendKey::new(V4::from(Ipv4Addr::new(10, 96, 0, 2)), Port::new(80), 6);
    agent.maps_mut().maps.v4.frontends.remove(&gone);
    agent.audit();
    assert_eq!(served(&agent), [[1, 2], [4, 7]], "the other is audited");

    agent.maps().fault.replace(Fault::None);
    agent.retry();
    assert_eq!(served(&agent), [[2, 5], [4, 7]]);
}
