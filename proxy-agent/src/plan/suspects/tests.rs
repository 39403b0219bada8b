use proptest::prelude::*;

use super::*;

/// A Service port whose endpoints answer or not, as the data path would see it.
struct Port {
    backends: Vec<Observed>,
    suspects: Suspects,
    began: Instant,
    milliseconds: u64,
}

impl Port {
    fn new(endpoints: u32) -> Self {
        let backend = |index| Observed {
            index,
            generation: 1,
            liveness: Liveness::default(),
        };
        Self {
            backends: (0..endpoints).map(backend).collect(),
            suspects: Suspects::default(),
            began: Instant::now(),
            milliseconds: 100_000,
        }
    }

    fn tick(&self) -> u32 {
        ticks::from_nanoseconds(self.milliseconds * 1_000_000)
    }

    fn liveness(&mut self, index: usize) -> &mut Liveness {
        let Observed {
            generation,
            liveness,
            ..
        } = &mut self.backends[index];
        if liveness.generation != *generation {
            *liveness = Liveness {
                generation: *generation,
                ..Liveness::default()
            };
        }
        liveness
    }

    fn answer(&mut self, index: usize) {
        let answered_at = self.tick();
        let liveness = self.liveness(index);
        *liveness = Liveness {
            generation: liveness.generation,
            answered_at,
            ..Liveness::default()
        };
    }

    fn leave_unanswered(&mut self, index: usize) {
        let unanswered_at = self.tick();
        let liveness = self.liveness(index);
        liveness.unanswered += 1;
        liveness.unanswered_at = unanswered_at;
    }

    /// Takes a trial, if there is one.
    fn take_trial(&mut self, index: usize) -> bool {
        let liveness = self.liveness(index);
        let is_trial = liveness.state == liveness_state::TRIAL;
        if is_trial {
            liveness.state = liveness_state::AVOIDED;
        }
        is_trial
    }

    fn review(&mut self) -> Vec<(usize, Step)> {
        let now = Moment {
            instant: self.began + Duration::from_millis(self.milliseconds),
            tick: self.tick(),
        };
        let steps = self.suspects.review(Family::V4, &self.backends, now);
        for (position, step) in &steps {
            self.liveness(*position).state = step.state();
        }
        steps
    }

    fn may_become_more(&self) -> bool {
        let port = &self.backends;
        self.suspects.may_become_more(Family::V4, port, self.tick())
    }

    fn wait(&mut self, milliseconds: u64) {
        self.milliseconds += milliseconds;
    }

    fn avoided(&self) -> usize {
        self.backends.iter().filter(|it| it.is_avoided()).count()
    }
}

#[test]
fn who_answers_nobody_while_others_answer_is_avoided_until_one_answer() {
    let mut port = Port::new(3);
    port.answer(0);
    port.wait(2000);
    port.answer(1);
    for count in 1..=3 {
        assert_eq!(port.review(), [], "{count}");
        port.leave_unanswered(0);
    }
    assert_eq!(port.review(), [(0, Step::Avoid)]);
    assert_eq!(port.review(), []);
    port.answer(0);
    assert_eq!(port.review(), [(0, Step::Use)]);
    assert!(port.suspects.is_empty());
}

#[test]
fn trials_become_ever_more_seldom() {
    let mut port = Port::new(2);
    port.answer(1);
    (0..3).for_each(|_| port.leave_unanswered(0));
    port.review();
    let mut times = Vec::new();
    let began = port.milliseconds;
    while port.milliseconds < began + 130_000 {
        port.wait(100);
        port.answer(1);
        port.review();
        if port.take_trial(0) {
            times.push((port.milliseconds - began) / 1000);
            port.leave_unanswered(0);
        }
    }
    assert_eq!(times, [1, 3, 7, 15, 31, 61, 91, 121]);
}

#[test]
fn a_suspicion_ends_that_nothing_has_confirmed_for_long() {
    let mut port = Port::new(2);
    port.answer(1);
    (0..3).for_each(|_| port.leave_unanswered(0));
    assert_eq!(port.review(), [(0, Step::Avoid)]);
    port.wait(50_000);
    port.review();
    assert_eq!(port.suspects.len(), 1);
    port.wait(20_000);
    assert_eq!(port.review(), [(0, Step::Use)]);
    assert_eq!(port.review(), []);
}

#[test]
fn a_set_of_which_more_than_half_would_be_suspect_is_used_whole() {
    let mut port = Port::new(4);
    port.answer(3);
    for index in 0..2 {
        (0..3).for_each(|_| port.leave_unanswered(index));
    }
    assert_eq!(port.review(), [(0, Step::Avoid), (1, Step::Avoid)]);
    (0..3).for_each(|_| port.leave_unanswered(2));
    assert_eq!(port.review(), [(0, Step::Use), (1, Step::Use)]);
    assert_eq!(port.review(), []);
}

#[test]
fn where_nobody_answers_nobody_is_suspect() {
    let mut port = Port::new(4);
    (0..9).for_each(|_| port.leave_unanswered(0));
    assert_eq!(port.review(), []);
}

#[test]
fn who_has_answered_just_before_is_decided_upon_later() {
    let mut port = Port::new(3);
    for index in 0..3 {
        port.answer(index);
    }
    assert!(!port.may_become_more());
    for _ in 0..UNANSWERED {
        port.leave_unanswered(0);
    }
    assert_eq!(port.review(), []);
    assert!(port.may_become_more());
    port.wait(1_000);
    assert_eq!(port.review(), [(0, Step::Avoid)]);
    assert!(!port.may_become_more());

    // Where nobody answers it does not go on for ever.
    let mut port = Port::new(3);
    for _ in 0..UNANSWERED {
        port.leave_unanswered(0);
    }
    assert!(port.may_become_more());
    port.wait(5_000);
    assert!(!port.may_become_more());
}

#[test]
fn another_endpoint_with_the_same_index_is_none_of_it() {
    let mut port = Port::new(2);
    port.answer(1);
    (0..3).for_each(|_| port.leave_unanswered(0));
    assert_eq!(port.review(), [(0, Step::Avoid)]);
    port.backends[0].generation = 3;
    assert_eq!(port.review(), []);
    assert!(port.suspects.is_empty());
}

#[test]
fn the_next_agent_goes_on_with_what_is_avoided() {
    let mut port = Port::new(2);
    port.answer(1);
    (0..3).for_each(|_| port.leave_unanswered(0));
    port.review();
    port.suspects = Suspects::default();
    assert_eq!(port.review(), [(0, Step::Avoid)]);
    port.wait(1000);
    assert_eq!(port.review(), [(0, Step::Try)]);
}

#[test]
fn others_of_its_set_share_what_one_would_have_got() {
    let mut port = Port::new(4);
    port.answer(3);
    (0..3).for_each(|_| port.leave_unanswered(0));
    port.review();
    let mut used = std::collections::BTreeSet::new();
    for round in 0..100 {
        let [one, other, local, none] =
            port.suspects
                .instead(Family::V4, [&[0, 1, 2, 3], &[0, 1]], round);
        assert_eq!((local, none), (2, 2), "the only other one, and plus 1");
        used.extend([one, other]);
    }
    assert_eq!(used, [2, 3, 4].into());
    assert_eq!(port.suspects.instead(Family::V4, [&[0], &[]], 7), [0; 4]);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Answer(usize),
    Unanswered(usize),
    Trial(usize),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0..6_usize).prop_map(Event::Answer),
        (0..6_usize).prop_map(Event::Unanswered),
        (0..6_usize).prop_map(Event::Trial),
        (1..3000_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    /// Never more than half is avoided, and one answer always ends it.
    #[test]
    fn no_set_is_emptied_and_one_answer_heals(endpoints in 1..6_u32, events in events()) {
        let mut port = Port::new(endpoints);
        for event in events {
            let at = |index: usize| index % endpoints as usize;
            match event {
                Event::Answer(index) => {
                    port.answer(at(index));
                    port.review();
                    prop_assert!(!port.backends[at(index)].is_avoided());
                    prop_assert!(!port.suspects.contains(Family::V4, port.backends[at(index)].index));
                }
                Event::Unanswered(index) => port.leave_unanswered(at(index)),
                Event::Trial(index) => drop(port.take_trial(at(index))),
                Event::Wait(milliseconds) => port.wait(milliseconds),
            }
            port.review();
            prop_assert!(port.avoided() * PART <= port.backends.len());
            prop_assert_eq!(port.avoided(), port.suspects.len());
        }
    }
}
