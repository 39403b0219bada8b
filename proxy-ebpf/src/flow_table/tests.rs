//! Records of one bucket: found, claimed, given up.

mod model;
mod second;

use std::net::Ipv4Addr;

use super::*;
use crate::layout::{Edge, Port, RelaxedU32, V4, flow_flags, protocol, ticks};

use flow_flags::{CLOSED, EMBRYONIC, PLAIN, REPLY, RESET, TCP};

const TIMEOUTS: &Timeouts = &Timeouts::DEFAULT;
/// Long after boot.
const NOW: u32 = 1_000_000;
const HOUR: u32 = ticks::from_seconds(60 * 60);
/// Flags of an established flow of UDP.
const UDP: u32 = 0;

fn host(number: u8) -> V4 {
    Ipv4Addr::new(10, 0, 0, number).into()
}

/// The tuple of a client's port.
fn tuple(port: u16) -> Tuple<V4> {
    Tuple {
        source: host(1),
        destination: host(2),
        source_port: Port::new(port),
        destination_port: Port::new(80),
    }
}

fn key(tuple: &Tuple<V4>) -> KeyParts<'_, V4> {
    KeyParts::of(tuple, protocol::TCP, Edge::Ingress)
}

/// A tag of its own for each of a hundred numbers.
fn tag(number: u16) -> Tag {
    Tag::of(u8::try_from(2 * number + 2).unwrap())
}

fn new_record(tuple: &Tuple<V4>, flags: u32, now: u32) -> NewRecord<'_, V4> {
    NewRecord {
        key: key(tuple),
        tuple: KeyParts::of_answers(tuple, protocol::TCP, Edge::Egress),
        backend: 3,
        generation: 5,
        service: 7,
        packets: 1,
        client_end: 11,
        flags,
        now,
    }
}

/// Claims a record with a tag of its own, which replaces what is over.
fn claim(bucket: &Bucket<V4>, number: u16, flags: u32) -> Claim {
    claim_with(bucket, number, tag(number), flags)
}

fn claim_with(bucket: &Bucket<V4>, number: u16, tag: Tag, flags: u32) -> Claim {
    let tuple = tuple(number);
    let new = new_record(&tuple, flags, NOW);
    let buckets = Buckets {
        target: bucket,
        other: &Bucket::default(),
    };
    let replaces = |old: &Record<'_, V4>| old.is_over(TIMEOUTS, NOW);
    buckets.claim(Round::EVICTING, &new, tag, TIMEOUTS, replaces)
}

fn find(bucket: &Bucket<V4>, number: u16) -> Option<Record<'_, V4>> {
    bucket.find(&key(&tuple(number)), tag(number))
}

/// A bucket with a record for each of these flags, which was idle for so long; the numbers of
/// their keys are their places.
fn bucket_of(records: &[(u32, u32)]) -> Bucket<V4> {
    let bucket = Bucket::default();
    for (number, (flags, idle)) in (0..).zip(records) {
        assert_eq!(claim(&bucket, number, *flags), MADE);
        find(&bucket, number).unwrap().set_last_seen(NOW - idle);
    }
    bucket
}

const MADE: Claim = Claim::Made { evicted: false };
const EVICTED: Claim = Claim::Made { evicted: true };

#[test]
fn a_record_says_what_was_claimed() {
    let bucket = Bucket::default();
    assert!(find(&bucket, 9).is_none());
    assert_eq!(claim(&bucket, 9, TCP | EMBRYONIC), MADE);
    let record = find(&bucket, 9).unwrap();
    assert!(key(&tuple(9)).are_of(&record.key));
    assert_eq!(record.tuple, tuple(9).reversed());
    let numbers = [record.backend, record.generation, record.service];
    assert_eq!(numbers, [3, 5, 7]);
    assert_eq!(record.packets.get(), 1);
    assert_eq!(record.ends.each_ref().map(RelaxedU32::get), [11, 0]);
    assert_eq!(record.flags(), TCP | EMBRYONIC);
    assert_eq!(record.last_seen(), NOW);
    assert!(record.is_unchanged());
}

#[test]
fn a_key_that_differs_in_anything_is_another_one() {
    let bucket = Bucket::default();
    claim(&bucket, 9, TCP);
    let mut tuples = [tuple(9); 4];
    tuples[0].source = host(3);
    tuples[1].destination = host(3);
    tuples[2].source_port = Port::new(10);
    tuples[3].destination_port = Port::new(10);
    for other in &tuples {
        assert!(bucket.find(&key(other), tag(9)).is_none());
    }
    let tuple = tuple(9);
    for other in [
        KeyParts::of(&tuple, protocol::UDP, Edge::Ingress),
        KeyParts::of(&tuple, protocol::TCP, Edge::Egress),
    ] {
        assert!(bucket.find(&other, tag(9)).is_none());
    }
}

#[test]
fn a_key_keeps_its_record_until_that_may_be_replaced() {
    let bucket = Bucket::default();
    assert_eq!(claim(&bucket, 9, TCP | EMBRYONIC), MADE);
    let record = find(&bucket, 9).unwrap();
    record.packets.set(100);
    assert_eq!(claim(&bucket, 9, TCP), Claim::Taken);
    assert_eq!(record.flags(), TCP | EMBRYONIC);
    record.mark(CLOSED);
    assert_eq!(claim(&bucket, 9, TCP), MADE);
    let record = find(&bucket, 9).unwrap();
    assert_eq!((record.flags(), record.packets.get()), (TCP, 1));
    assert_eq!(bucket.records().count(), 1);
}

#[test]
fn a_full_bucket_gives_up_what_it_can_spare_most() {
    // In the order in which they go.
    let bucket = bucket_of(&[
        (TCP | CLOSED, 0),
        (TCP | EMBRYONIC, 20),
        (TCP | RESET, 5),
        (UDP, 0),
        (TCP | EMBRYONIC | REPLY, 0),
        (TCP, HOUR + 20),
        (TCP, HOUR + 10),
    ]);
    for number in 0..7 {
        let expected = if number == 0 { MADE } else { EVICTED };
        assert_eq!(claim(&bucket, 50 + number, TCP), expected);
        let left: Vec<_> = (0..7).filter(|it| find(&bucket, *it).is_some()).collect();
        assert_eq!(left, (number + 1..7).collect::<Vec<_>>());
    }
    assert_eq!(claim(&bucket, 60, TCP), Claim::Full);
    assert_eq!(bucket.records().count(), WAYS);
}

/// What was made in this moment is not given up for the next one.
#[test]
fn of_equal_records_another_gives_way_in_turn() {
    for kind in [TCP | EMBRYONIC, UDP] {
        let bucket = bucket_of(&[(kind, 0); WAYS]);
        for number in 0..20 {
            assert_eq!(claim(&bucket, 10 + number, kind), EVICTED);
            let newest = (10..=10 + number).rev().take(3);
            for kept in newest {
                assert!(find(&bucket, kept).is_some(), "{kept} after {number}");
            }
        }
    }
}

#[test]
fn a_connection_that_was_active_within_an_hour_stays() {
    for newcomer in [TCP, TCP | EMBRYONIC, UDP, UDP | EMBRYONIC, TCP | PLAIN] {
        let bucket = bucket_of(&[(TCP, HOUR); WAYS]);
        assert_eq!(claim(&bucket, 50, newcomer), Claim::Full);
    }
}

#[test]
fn udp_pushes_out_no_tcp_that_is_not_over() {
    let bucket = bucket_of(&[(TCP | EMBRYONIC, 30), (TCP | RESET, 5), (TCP, 2 * HOUR)]);
    for number in 10..14 {
        assert_eq!(claim(&bucket, number, UDP), MADE);
    }
    for number in 20..40 {
        assert_eq!(claim(&bucket, number, UDP | EMBRYONIC), EVICTED);
    }
    assert!((0..3).all(|it| find(&bucket, it).is_some()));
    find(&bucket, 1).unwrap().mark(CLOSED);
    assert_eq!(claim(&bucket, 50, UDP), MADE);
    assert!(find(&bucket, 1).is_none());
}

#[test]
fn what_nobody_translates_pushes_out_only_its_kind() {
    let bucket = bucket_of(&[
        (TCP | EMBRYONIC, 30),
        (UDP, 200),
        (UDP | EMBRYONIC, 50),
        (TCP, 2 * HOUR),
        (TCP | PLAIN, 0),
        (TCP | PLAIN, 1),
        (UDP | PLAIN, 0),
    ]);
    for number in 50..53 {
        assert_eq!(
            claim(&bucket, number, TCP | PLAIN),
            MADE,
            "a note is no flow"
        );
    }
    assert!((0..4).all(|it| find(&bucket, it).is_some()));
    // And is pushed out as early as what is not established.
    find(&bucket, 0).unwrap().set_last_seen(NOW);
    let note = find(&bucket, 52).unwrap();
    note.set_last_seen(NOW - 55);
    assert_eq!(claim(&bucket, 60, TCP), MADE);
    assert!(find(&bucket, 52).is_none());
}

#[test]
fn while_a_record_is_written_nobody_claims_another() {
    let bucket = bucket_of(&[(TCP, 0), (TCP, 0)]);
    let kept = find(&bucket, 0).unwrap();
    let replaced = find(&bucket, 1).unwrap();
    bucket.tags.reserve(bucket.tags.load(), 1).unwrap();
    assert_eq!(claim(&bucket, 50, TCP), Claim::Busy);
    assert_eq!(claim(&bucket, 0, TCP), Claim::Busy);
    // What is not written is found, and what is, is not.
    assert!(find(&bucket, 0).is_some());
    assert!(find(&bucket, 1).is_none());
    assert!(kept.is_unchanged());
    assert!(!replaced.is_unchanged());
    assert_eq!(bucket.records().count(), 1);
}

#[test]
fn a_record_that_is_held_is_found_by_nobody_until_it_is_released() {
    let bucket = bucket_of(&[(TCP, 0), (TCP, 0)]);
    let held = find(&bucket, 0)
        .unwrap()
        .hold(tag(0))
        .expect("nobody claims");
    assert!(find(&bucket, 0).is_none());
    assert!(bucket.is_busy());
    assert_eq!(claim(&bucket, 5, TCP), Claim::Busy);
    assert!(
        find(&bucket, 1).unwrap().hold(tag(1)).is_none(),
        "one at a time"
    );
    held.release(TCP | CLOSED);
    assert_eq!(find(&bucket, 0).unwrap().flags(), TCP | CLOSED);
    assert!(matches!(claim(&bucket, 5, TCP), Claim::Made { .. }));
}

#[test]
fn a_way_whose_writer_is_no_more_is_freed() {
    let bucket = bucket_of(&[(TCP, 0), (TCP, 0)]);
    bucket.tags.reserve(bucket.tags.load(), 1).unwrap();
    let seen = bucket.tags.load();
    bucket.free_abandoned(seen);
    assert!(find(&bucket, 0).is_some());
    assert!(find(&bucket, 1).is_none());
    assert_eq!(claim(&bucket, 1, TCP), MADE);
    // Another claim of the same way is not the one that was seen.
    bucket.tags.reserve(bucket.tags.load(), 1).unwrap();
    bucket.free_abandoned(seen);
    assert!(bucket.tags.load().is_busy());
}

#[test]
fn records_with_one_tag_are_told_apart_while_they_are_few() {
    let bucket = Bucket::default();
    let same = tag(0);
    for number in 0..4 {
        assert_eq!(claim_with(&bucket, number, same, TCP), MADE);
    }
    for number in 0..4 {
        let record = bucket.find(&key(&tuple(number)), same).unwrap();
        assert_eq!(record.key.tuple, tuple(number));
    }
    // One more would not be found.
    assert_eq!(claim_with(&bucket, 4, same, TCP), Claim::Full);
    assert_eq!(claim_with(&bucket, 2, same, TCP), Claim::Taken);
    assert_eq!(claim(&bucket, 50, TCP), MADE);
    bucket.find(&key(&tuple(2)), same).unwrap().mark(CLOSED);
    assert_eq!(claim_with(&bucket, 2, same, TCP), MADE);
}

#[test]
fn a_record_that_was_replaced_is_not_the_one_that_was_found() {
    let bucket = bucket_of(&[(TCP | EMBRYONIC, 10); WAYS]);
    let found = find(&bucket, 0).unwrap();
    found.set_last_seen(NOW - 20);
    assert_eq!(claim(&bucket, 50, TCP), EVICTED);
    assert!(!found.is_unchanged());
}

#[test]
fn places_depend_on_all_of_a_key_and_on_the_seed() {
    let tuple = tuple(9);
    let other = Tuple {
        source_port: Port::new(10),
        ..tuple
    };
    let place = |key: &KeyParts<'_, V4>, seed| Place::of(key, seed);
    let first = place(&key(&tuple), 1);
    let others = [
        place(&key(&other), 1),
        place(&key(&tuple.reversed()), 1),
        place(&KeyParts::of(&tuple, protocol::UDP, Edge::Ingress), 1),
        place(&KeyParts::of(&tuple, protocol::TCP, Edge::Egress), 1),
        place(&key(&tuple), 2),
    ];
    assert!(others.iter().all(|it| *it != first));
    // One after the other, as many clients' ports are.
    let mut buckets = [0; 64];
    for port in 0..6400 {
        let tuple = self::tuple(port);
        buckets[place(&key(&tuple), 1).bucket(64) as usize] += 1;
    }
    assert!(buckets.iter().all(|count| (50..150).contains(count)));
}
