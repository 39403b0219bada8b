//! What `explain` says of random packets and calls to random Services, beside what real ones then
//! do: packets go through the programs in the kernel, and sockets of real processes connect.

mod callers;
mod node;
mod objects;
mod packets;
mod questions;
mod tally;

use std::collections::{BTreeSet, HashSet};

use anyhow::{Context as _, Result};
use proxy_agent::inspect::State;
use proxy_agent::inspect::explain::{Explanation, PathResult, Question};
use proxy_agent::maps::now;
use proxy_agent::model::object::Protocol;
use proxy_ebpf::layout::ticks;
use proxy_tests::clock;
use proxy_tests::packets::{Choices, noise};

use self::callers::{CallOutcome, Caller};
use self::node::{Place, TestNode};
use self::packets::{Fate, Next, PacketPath, Seen, send, send_back};
use self::questions::{Client, ask};
use self::tally::Tally;

/// Packets, and tuples to which a process of the host and one of a Pod call.
const PACKETS: u64 = 3000;
const CALLS: u64 = 1000;
/// After so many some Services change.
const CHANGE: u64 = 250;
/// The noise of one question.
const NOISE: usize = 512;

fn path_of<'a>(explanation: &'a Explanation, name: &str) -> Result<&'a PathResult> {
    let mut paths = explanation.paths.iter();
    paths.find(|it| it.path == name).context("no such path")
}

/// A packet that was asked about and sent.
#[derive(Clone, Copy)]
struct Sent {
    path: PacketPath,
    question: Question,
    seen: Seen,
}

/// The next packet: a new one, or one like an earlier one.
fn next_packet(
    node: &TestNode,
    earlier: &[Sent],
    choices: &mut Choices<'_>,
) -> (PacketPath, Question) {
    let path = choices.one_of(&PacketPath::ALL);
    if !earlier.is_empty() && choices.seldom(3) {
        let again = earlier[earlier.len() - 1 - choices.below(earlier.len().min(64))];
        return (again.path, again.question);
    }
    let client = match path {
        PacketPath::Pod => Client::Pod,
        PacketPath::Outside | PacketPath::OutsideByXdp => Client::Outside,
        PacketPath::Host => Client::Host,
    };
    (path, ask(client, &node.services, choices))
}

/// What is wrong with what `explain` has said, if anything is.
fn difference(
    explanation: &Explanation,
    said: &PathResult,
    (path, seen): (PacketPath, &Seen),
    was_made: bool,
) -> Option<&'static str> {
    let (fate, [source, destination]) = (seen.fate, seen.ends);
    if !fate.verdicts().contains(&said.verdict) {
        return Some("verdict");
    }
    if path == PacketPath::OutsideByXdp && said.xdp_can != seen.by_xdp {
        return Some("XDP");
    }
    match fate {
        Fate::Answered | Fate::Dropped => return None,
        Fate::InTunnel => {
            // The tunnel is the node's; the client's address is in it.
            let is_same = destination.ip() == said.destination.ip();
            return (!is_same).then_some("tunnel");
        }
        Fate::Passed | Fate::Translated | Fate::SentOn => {}
    }
    if destination != said.destination {
        return Some("destination");
    }
    if source != said.source {
        return Some("source");
    }
    // A flow that goes to an endpoint itself has another source port than its client's, which is
    // another flow's there.
    let is_selected = was_made && explanation.frontend.is_some();
    if is_selected && !said.candidates.contains(&destination) {
        return Some("candidates");
    }
    let flow = explanation.flow.as_ref().and_then(|flow| flow.endpoint);
    let goes_on = fate != Fate::Passed && !was_made;
    if goes_on && flow.is_some_and(|endpoint| endpoint != destination) {
        return Some("the flow's endpoint");
    }
    None
}

/// The time in ticks, where `explain` and the programs, whose clock is a little late, have the same.
fn tick() -> Result<Option<u32>> {
    let of_programs = ticks::from_nanoseconds(clock::coarse());
    Ok(Some(now()?).filter(|it| *it == of_programs))
}

/// Asks, sends, and compares.
fn compare_packet(
    node: &mut TestNode,
    state: &State,
    (path, question): (PacketPath, Question),
    tally: &mut Tally,
) -> Result<Sent> {
    let before = tick()?;
    let explanation = node.explain(question, state)?;
    let said = path_of(&explanation, path.name())?;
    let made = node.flows_made()?;
    let (seen, reasons) = node.reasons(|node| send(node, path, &question))?;
    let was_made = node.flows_made()? > made;
    let sent = Sent {
        path,
        question,
        seen,
    };
    if before.is_none() || tick()? != before {
        // Time is a part of what decides.
        tally.crossed();
        return Ok(sent);
    }
    let wrong = difference(&explanation, said, (path, &seen), was_made);
    let said_reasons: BTreeSet<_> = said.reasons.iter().copied().collect();
    let wrong = wrong.or((said_reasons != reasons).then_some("reasons"));
    if let Some(what) = wrong {
        tally.differs(&format!(
            "{what}: {path:?} {question:?}\n said {said:?}\n of {:?}\n flow {:?}\n saw {seen:?} \
             {reasons:?}, a new flow: {was_made}",
            explanation.frontend, explanation.flow
        ));
    }
    let kind = format!("{path:?}");
    tally.count(&kind, said.verdict, explanation.flow.is_some());
    for reason in reasons {
        tally.reason(&kind, reason);
    }
    Ok(sent)
}

#[test]
fn packets_do_what_explain_has_said() -> Result<()> {
    let place = Place::new()?;
    place.host.run(|| compare_packets(&place))?
}

fn compare_packets(place: &Place) -> Result<()> {
    let mut node = TestNode::new(place, 1)?;
    let mut tally = Tally::default();
    let mut earlier: Vec<Sent> = Vec::new();
    let mut state = node.state()?;
    for number in 0..PACKETS {
        let noise = noise(number << 8 | 0x51, NOISE);
        let mut choices = Choices::new(&noise);
        if number == PACKETS / 2 {
            node.know_devices()?;
            state = node.state()?;
        }
        if number % CHANGE == CHANGE - 1 {
            node.change(&mut choices)?;
            state = node.state()?;
        }
        let next = next_packet(&node, &earlier, &mut choices);
        let sent = compare_packet(&mut node, &state, next, &mut tally)?;
        let has_arrived = matches!(sent.seen.fate, Fate::Translated | Fate::SentOn);
        if has_arrived && choices.seldom(2) {
            let next = choices.one_of(&[Next::Answer, Next::Answer, Next::Reset]);
            send_back(&mut node, sent.question.protocol, sent.seen.ends, next)?;
        }
        earlier.push(sent);
    }
    tally.end(PACKETS, &MET_BY_PACKETS)
}

/// What packets have to meet, on each path.
const MET_BY_PACKETS: [(&str, &[&str]); 4] = [
    ("Pod", &["pass", "translate", "forward", "answer", "drop"]),
    ("Outside", &OUTSIDE),
    ("OutsideByXdp", &OUTSIDE),
    ("Host", &["pass", "forward", "answer", "drop"]),
];
const OUTSIDE: [&str; 6] = [
    "pass",
    "translate",
    "forward",
    "encapsulate",
    "answer",
    "drop",
];

/// And calls.
const MET_BY_CALLS: [(&str, &[&str]); 2] = [
    ("host-socket", &["pass", "translate", "refuse", "time-out"]),
    ("pod-socket", &["pass", "translate", "refuse"]),
];

/// Calls, and compares with what was explained.
fn compare_call(
    node: &mut TestNode,
    explanation: &Explanation,
    (path, caller): (&str, &mut Caller),
    kept: &mut HashSet<(String, u32)>,
    tally: &mut Tally,
) -> Result<()> {
    let question = &explanation.packet;
    let said = path_of(explanation, path)?;
    let (outcome, reasons) = node.reasons(|_| caller.call(question))?;
    let is_kept = explanation.frontend.as_ref().is_some_and(|found| {
        let of_service = (path.to_owned(), found.service.id);
        found.affinity_seconds > 0 && said.verdict == "translate" && !kept.insert(of_service)
    });
    let is_same = match (said.verdict, outcome) {
        ("pass", CallOutcome::SentTo(to)) => to == question.destination,
        ("translate", CallOutcome::SentTo(to)) if is_kept || said.candidates.len() < 2 => {
            to == said.destination
        }
        ("translate", CallOutcome::SentTo(to)) => {
            let both = [to, said.destination];
            both.iter().all(|it| said.candidates.contains(it))
        }
        ("refuse", CallOutcome::Refused) | ("time-out", CallOutcome::TimedOut) => true,
        _ => false,
    };
    let said_reasons: BTreeSet<_> = said.reasons.iter().copied().collect();
    if !is_same || reasons != said_reasons {
        tally.differs(&format!(
            "{path} {question:?}\n said {said:?}\n of {:?}\n saw {outcome:?} {reasons:?}",
            explanation.frontend
        ));
    }
    tally.count(path, said.verdict, is_kept);
    for reason in reasons {
        tally.reason(path, reason);
    }
    Ok(())
}

#[test]
fn sockets_do_what_explain_has_said() -> Result<()> {
    let place = Place::new()?;
    place.host.run(|| compare_calls(&place))?
}

fn compare_calls(place: &Place) -> Result<()> {
    let mut node = TestNode::new(place, 2)?;
    node.serve_sockets(place)?;
    let mut callers = [
        ("host-socket", Caller::start(&place.host)?),
        ("pod-socket", Caller::start(&place.pod)?),
    ];
    let mut tally = Tally::default();
    let mut kept = HashSet::new();
    let mut state = node.state()?;
    for number in 0..CALLS {
        let noise = noise(number << 8 | 0x52, NOISE);
        let mut choices = Choices::new(&noise);
        if number % CHANGE == CHANGE - 1 {
            node.change(&mut choices)?;
            state = node.state()?;
            kept.clear();
        }
        let mut question = ask(Client::Host, &node.services, &mut choices);
        if question.protocol == Protocol::Sctp {
            question.protocol = Protocol::Tcp;
        }
        let explanation = node.explain(question, &state)?;
        for (path, caller) in &mut callers {
            let caller = (*path, caller);
            compare_call(&mut node, &explanation, caller, &mut kept, &mut tally)?;
        }
    }
    tally.end(CALLS, &MET_BY_CALLS)
}
