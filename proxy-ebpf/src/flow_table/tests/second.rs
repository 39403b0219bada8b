//! Records in the second bucket of their key.

use super::*;

/// Two full buckets but for `room` ways of the second one, all of connections that live.
fn full(room: usize) -> [Bucket<V4>; 2] {
    [
        bucket_of(&[(TCP, 10); WAYS]),
        bucket_of(&vec![(TCP, 10); WAYS - room]),
    ]
}

fn claim_in(round: Round, [home, second]: [&Bucket<V4>; 2], number: u16) -> Claim {
    let tuple = tuple(number);
    let new = new_record(&tuple, TCP, NOW);
    let is_second = round == Round::SECOND;
    let (target, other) = if is_second {
        (second, home)
    } else {
        (home, second)
    };
    let replaces = |old: &Record<'_, V4>| old.is_over(TIMEOUTS, NOW);
    Buckets { target, other }.claim(round, &new, tag(number), TIMEOUTS, replaces)
}

#[test]
fn a_record_goes_to_the_second_bucket_where_all_of_the_first_live() {
    let [home, second] = &full(1);
    assert_eq!(claim_in(Round::HOME, [home, second], 50), Claim::Full);
    assert!(!home.has_spilled());
    assert_eq!(claim_in(Round::SECOND, [home, second], 50), MADE);
    assert!(home.has_spilled());
    assert!(find(second, 50).is_some());
    assert!(!second.has_spilled(), "it is the home of none elsewhere");
    // Nobody makes another one with its key.
    for round in [Round::HOME, Round::SECOND, Round::EVICTING] {
        assert_eq!(claim_in(round, [home, second], 50), Claim::Taken);
    }
    // The next one has no room in either.
    for round in [Round::HOME, Round::SECOND, Round::EVICTING] {
        assert_eq!(claim_in(round, [home, second], 51), Claim::Full);
    }
}

#[test]
fn one_that_is_over_leaves_the_second_bucket_before_its_key_gets_another() {
    let [home, second] = &full(1);
    assert_eq!(claim_in(Round::SECOND, [home, second], 50), MADE);
    find(second, 50).unwrap().mark(CLOSED);
    find(home, 0).unwrap().mark(CLOSED);
    assert_eq!(claim_in(Round::HOME, [home, second], 50), Claim::Busy);
    assert!(find(second, 50).is_none());
    assert_eq!(claim_in(Round::HOME, [home, second], 50), MADE);
}

#[test]
fn what_is_written_in_either_bucket_is_waited_for() {
    let [home, second] = &full(1);
    home.abandon_claim(0);
    assert_eq!(claim_in(Round::HOME, [home, second], 50), Claim::Busy);
    assert_eq!(claim_in(Round::SECOND, [home, second], 50), Claim::Busy);

    let [home, second] = &full(2);
    assert_eq!(claim_in(Round::SECOND, [home, second], 50), MADE);
    second.abandon_claim(0);
    assert_eq!(claim_in(Round::HOME, [home, second], 51), Claim::Busy);
    let [unspilled, _] = &full(0);
    unspilled.records().next().unwrap().mark(CLOSED);
    assert_eq!(claim_in(Round::HOME, [unspilled, second], 51), MADE);
}

/// How many keys have no room, in a table with so many keys for each hundred ways.
fn without_room(percent: usize) -> usize {
    const BUCKETS: u32 = 512;
    let table: Vec<Bucket<V4>> = (0..BUCKETS).map(|_| Bucket::default()).collect();
    let count = BUCKETS as usize * WAYS * percent / 100;
    let mut without = 0;
    for number in 0..u16::try_from(count).unwrap() {
        let tuple = tuple(number);
        let place = Place::of(&key(&tuple), 1);
        let buckets = [place, place.second()].map(|it| it.bucket(BUCKETS));
        let mut round = Some(Round::HOME);
        let is_made = loop {
            let Some(now) = round else { break false };
            let [target, other] = now.in_order(buckets).map(|it| &table[it as usize]);
            let new = new_record(&tuple, TCP, NOW);
            match (Buckets { target, other }).claim(now, &new, place.tag(), TIMEOUTS, |_| false) {
                Claim::Made { .. } => break true,
                claim => assert_eq!(claim, Claim::Full),
            }
            round = now.next();
        };
        without += usize::from(!is_made);
    }
    without
}

#[test]
fn a_table_that_is_half_full_has_room_for_all() {
    assert_eq!(without_room(50), 0);
    // With home buckets alone these are 16 of 1792, and 155 of 2688.
    assert!(without_room(75) <= 50);
}

/// Claims a key as programs do, waiting where another one writes. False where there is no room.
fn make(buckets: [&Bucket<V4>; 2], number: u16) -> bool {
    let mut round = Round::HOME;
    loop {
        match claim_in(round, buckets, number) {
            Claim::Made { .. } | Claim::Taken => return true,
            Claim::Busy => std::hint::spin_loop(),
            Claim::Full => match round.next() {
                Some(next) => round = next,
                None => return false,
            },
        }
    }
}

#[test]
fn of_two_cpus_one_makes_the_record_of_a_key() {
    const KEYS: u16 = 8;
    for turn in 0..4000 {
        let [home, second] = &full(WAYS - 2);
        let works = |first: u16| {
            for step in 0..3 * KEYS {
                let number = 50 + (first + step) % KEYS;
                make([home, second], number);
                // A way of the home, or this very record, is free for somebody else.
                let ended = if (step + turn) % 3 == 0 {
                    number
                } else {
                    step % 7
                };
                for bucket in [home, second] {
                    if let Some(record) = find(bucket, ended) {
                        record.mark(CLOSED);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| works(0));
            scope.spawn(|| works(0));
        });
        for number in 50..50 + KEYS {
            let is_there = [home, second].map(|bucket| find(bucket, number).is_some());
            assert_ne!(is_there, [true, true], "{number} in turn {turn}");
        }
    }
}
