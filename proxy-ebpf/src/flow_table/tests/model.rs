//! A table of some buckets against a map without limits that says what may be given up.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Keys, of which a table of [`BUCKETS`] has room for some.
const KEYS: u16 = 60;
const BUCKETS: u32 = 3;

/// Flags of records: established and not, of both protocols, translated and not.
const KINDS: [u32; 9] = [
    TCP,
    TCP | EMBRYONIC,
    TCP | EMBRYONIC | REPLY,
    TCP | RESET,
    TCP | CLOSED,
    UDP,
    UDP | EMBRYONIC,
    TCP | PLAIN,
    UDP | PLAIN,
];

#[derive(Clone, Debug)]
enum Step {
    Claim { key: u16, flags: u32 },
    Packet { key: u16 },
    Ends { key: u16 },
    Wait { seconds: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    let flags = prop::sample::select(KINDS.to_vec());
    let seconds = prop::sample::select(vec![0, 1, 5, 9, 11, 40, 61, 241, 1000, 3500, 90_000]);
    prop_oneof![
        20 => (key.clone(), flags).prop_map(|(key, flags)| Step::Claim { key, flags }),
        6 => key.clone().prop_map(|key| Step::Packet { key }),
        1 => key.prop_map(|key| Step::Ends { key }),
        3 => seconds.prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// How a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct State {
    flags: u32,
    last_seen: u32,
}

impl State {
    fn idle(self, now: u32) -> u32 {
        now - self.last_seen
    }

    fn is_over(self, now: u32) -> bool {
        let seconds = match self.flags {
            flags if flags & CLOSED != 0 => return true,
            flags if flags & RESET != 0 => 10,
            flags if flags & (TCP | EMBRYONIC) == TCP | EMBRYONIC => 60,
            flags if flags & TCP != 0 => 24 * 60 * 60,
            flags if flags & EMBRYONIC != 0 => 60,
            _ => 240,
        };
        self.idle(now) > ticks::from_seconds(seconds)
    }

    /// How gladly it is given up for such a new one; `None` for not at all.
    fn rank(self, newcomer: u32, now: u32) -> Option<(u32, u32)> {
        let is_plain = self.flags & PLAIN != 0;
        if self.is_over(now) {
            return Some((5, 0));
        }
        if newcomer & PLAIN != 0 && !is_plain {
            return None;
        }
        if newcomer & TCP == 0 && self.flags & TCP != 0 && !is_plain {
            return None;
        }
        let idle = self.idle(now);
        if self.flags & (EMBRYONIC | REPLY) == EMBRYONIC | REPLY && idle == 0 {
            // The other record of its flow may be the newcomer.
            Some((2, idle))
        } else if is_plain || self.flags & (EMBRYONIC | RESET) != 0 {
            Some((4, idle))
        } else if self.flags & TCP == 0 {
            Some((3, idle))
        } else {
            (idle > HOUR).then_some((1, idle))
        }
    }
}

struct World {
    table: Vec<Bucket<V4>>,
    model: HashMap<u16, State>,
    /// In which bucket each record is.
    places: HashMap<u16, u32>,
    now: u32,
    seed: u32,
}

impl World {
    fn place(&self, number: u16) -> Place {
        Place::of(&key(&tuple(number)), self.seed)
    }

    /// The indices of its home bucket and of the second one.
    fn buckets(&self, number: u16) -> [u32; 2] {
        let place = self.place(number);
        [place, place.second()].map(|it| it.bucket(BUCKETS))
    }

    fn bucket(&self, index: u32) -> &Bucket<V4> {
        &self.table[index as usize]
    }

    /// As programs find it.
    fn find(&self, number: u16) -> Option<Record<'_, V4>> {
        let (tuple, tag) = (tuple(number), self.place(number).tag());
        let [home, second] = self.buckets(number).map(|index| self.bucket(index));
        let found = home.find(&key(&tuple), tag);
        found.or_else(|| {
            let is_there = home.has_spilled();
            is_there.then(|| second.find(&key(&tuple), tag)).flatten()
        })
    }

    /// Who is in a bucket, with how it is.
    fn records_in(&self, bucket: u32) -> Vec<(u16, State)> {
        let all = self.model.iter().map(|(key, state)| (*key, *state));
        all.filter(|(key, _)| self.places[key] == bucket).collect()
    }

    fn forget(&mut self, number: u16) {
        self.model.remove(&number);
        self.places.remove(&number);
    }

    /// Round by round, as programs do.
    fn claim(&mut self, number: u16, flags: u32) {
        let mut round = Some(Round::HOME);
        while let Some(now) = round {
            round = match self.claim_in(now, number, flags) {
                Claim::Made { .. } | Claim::Taken => return,
                Claim::Busy => Some(now),
                Claim::Full => now.next(),
            };
        }
    }

    fn claim_in(&mut self, round: Round, number: u16, flags: u32) -> Claim {
        let now = self.now;
        let tuple = tuple(number);
        let new = new_record(&tuple, flags, now);
        let indices = round.in_order(self.buckets(number));
        let [target, other] = indices.map(|index| self.bucket(index));
        let replaces = |old: &Record<'_, V4>| old.is_over(TIMEOUTS, now);
        let tag = self.place(number).tag();
        let claim = Buckets { target, other }.claim(round, &new, tag, TIMEOUTS, replaces);
        self.take_in(round, number, flags, claim);
        claim
    }

    /// Checks what came of a claim, and notes it.
    fn take_in(&mut self, round: Round, number: u16, flags: u32, claim: Claim) {
        let now = self.now;
        let [target, other] = round.in_order(self.buckets(number));
        let before = self.records_in(target);
        if round == Round::SECOND && target == other {
            assert_eq!(claim, Claim::Full, "there is no second bucket");
            return;
        }
        let known = self.model.get(&number).copied();
        if known.is_some_and(|state| !state.is_over(now)) {
            assert_eq!(claim, Claim::Taken);
            return;
        }
        if known.is_some() && self.places[&number] != target {
            assert_eq!(claim, Claim::Busy, "it has to be removed there");
            self.forget(number);
            return;
        }
        let state = State {
            flags,
            last_seen: now,
        };
        if known.is_some() || before.len() < WAYS {
            if claim == Claim::Full {
                self.has_many_with_the_tag(number, target);
                return;
            }
            assert_eq!(claim, MADE, "in place of itself, or where there is room");
            self.model.insert(number, state);
            self.places.insert(number, target);
            return;
        }
        let rank = |state: &State| {
            let rank = state.rank(flags, now);
            rank.filter(|_| round == Round::EVICTING || state.is_over(now))
        };
        let most = before.iter().filter_map(|(_, it)| rank(it)).max();
        match claim {
            Claim::Full if most.is_some() => self.has_many_with_the_tag(number, target),
            Claim::Full => {}
            Claim::Made { evicted } => {
                let gone: Vec<_> = before
                    .iter()
                    .filter(|(key, _)| self.find(*key).is_none())
                    .collect();
                let [(lost, was)] = gone[..] else {
                    panic!("{gone:?} had to make way for one");
                };
                assert_eq!(rank(was), most, "{was:?} of {before:?}");
                assert_eq!(evicted, !was.is_over(now) && was.flags & PLAIN == 0);
                let is_active = was.flags == TCP && was.idle(now) <= HOUR;
                assert!(!is_active, "an active connection was given up");
                self.forget(*lost);
                self.model.insert(number, state);
                self.places.insert(number, target);
            }
            Claim::Taken | Claim::Busy => panic!("{claim:?}"),
        }
    }

    /// Some hundred million flows meet so once; of few keys that are chosen, more.
    fn has_many_with_the_tag(&self, number: u16, bucket: u32) {
        let tag = self.place(number).tag();
        let same = self.records_in(bucket).into_iter();
        let same = same.filter(|(key, _)| self.place(*key).tag() == tag);
        assert!(same.count() >= SAME_TAGS, "there was room");
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Claim { key, flags } => self.claim(key, flags),
            Step::Packet { key } => {
                if let Some(record) = self.find(key) {
                    record.set_last_seen(self.now);
                }
                if let Some(state) = self.model.get_mut(&key) {
                    state.last_seen = self.now;
                }
            }
            Step::Ends { key } => {
                if let Some(record) = self.find(key) {
                    record.mark(CLOSED);
                }
                if let Some(state) = self.model.get_mut(&key) {
                    state.flags |= CLOSED;
                }
            }
            Step::Wait { seconds } => self.now += ticks::from_seconds(seconds),
        }
    }

    /// Each key of the model has one record, as the model has it; there are no others.
    fn check(&self) {
        let records = self.table.iter().flat_map(Bucket::records);
        assert_eq!(records.count(), self.model.len());
        for (number, state) in &self.model {
            let record = self.find(*number).expect("a record for each key");
            let found = State {
                flags: record.flags(),
                last_seen: record.last_seen(),
            };
            assert_eq!(found, *state);
            assert_eq!(record.tuple, tuple(*number).reversed());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_table_is_as_a_map_that_gives_up_what_it_can_spare_most(
        steps in prop::collection::vec(step(), 0..300),
        seed in any::<u32>(),
    ) {
        let table = (0..BUCKETS).map(|_| Bucket::default()).collect();
        let mut world = World { table, model: HashMap::new(), places: HashMap::new(), now: NOW, seed };
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}
