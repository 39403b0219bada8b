//! Fuzzes the packet pipeline on the host: any bytes as frames, one after the
//! other, on a node with some Services.
//!
//! Whatever comes in, nothing panics; a frame keeps its length, but for a tunnel that it is
//! put into or taken out of, unless an ICMP error takes its place; only addresses, ports and
//! checksums change, and time to live and link-layer addresses where it is sent on; a
//! checksum that was right stays right; and not touched is what is dropped, unless a change of
//! it failed half-way or it was taken out of a tunnel first, what passes while there is no
//! flow, and what is no TCP, UDP, SCTP or ICMP packet.
#![no_main]

#[path = "../../../proxy-ebpf/tests/pipeline/maps.rs"]
mod maps;
mod node;

use libfuzzer_sys::fuzz_target;
use node::Node;
use proxy_ebpf::host::Action;
// Where `maps` finds them, which is also a module of that crate's tests.
use proxy_ebpf::{host, layout};
use proxy_tests::packets::{Checksums, Places, Script, Step};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

fuzz_target!(|bytes: &[u8]| {
    let script = Script::decode(bytes);
    let mut node = Node::new(script.state);
    for step in &script.steps {
        node.happen(step.event);
        let begun = node.begun_changes();
        let (action, after) = node.run(step);
        // What was begun and could not be finished is dropped as it is then.
        let is_whole = node.begun_changes() == begun;
        let is_dropped = action == Action::Drop && is_whole;
        if is_dropped || (action == Action::Pass && node.has_no_flows()) {
            assert_eq!(step.frame, after, "not translated, and touched");
        }
        check(step, action, &after);
    }
});

fn places(step: &Step, frame: &[u8]) -> Option<Places> {
    if step.bare {
        Places::of_packet(frame, 0, node::is_ipv4(frame))
    } else {
        Places::of_frame(frame)
    }
}

/// Whether this is an ICMP packet: translated, or in the place of what it refuses. That
/// its checksum stays right is checked here. One about a tunnel that is sent on has lost the
/// outer header that it quoted.
fn is_icmp(step: &Step, action: Action, after: &[u8]) -> bool {
    let Some(is) = places(step, after).filter(|it| matches!(it.protocol, ICMP | ICMPV6)) else {
        return false;
    };
    let was = places(step, &step.frame).filter(|it| matches!(it.protocol, ICMP | ICMPV6));
    if let Some(was) = was {
        let shorter = step.frame.len().checked_sub(after.len());
        let is_unwrapped = action == Action::Forward && matches!(shorter, Some(20 | 40));
        assert!(shorter == Some(0) || is_unwrapped, "the length has changed");
        if Checksums::of(&step.frame, &was).transport == Some(true) {
            assert_eq!(
                Checksums::of(after, &is).transport,
                Some(true),
                "ICMP's checksum"
            );
        }
    }
    true
}

/// The longer of two frames without an outer IP header, if that is what one has more than
/// the other.
fn without_tunnel(step: &Step, longer: &[u8], shorter: &[u8]) -> Option<Vec<u8>> {
    let more = longer.len().checked_sub(shorter.len())?;
    let network = if step.bare { 0 } else { 14 };
    if more != 20 && more != 40 || longer.len() < network + more {
        return None;
    }
    Some([&longer[..network], &longer[network + more..]].concat())
}

fn check(step: &Step, action: Action, after: &[u8]) {
    if action == Action::Drop || is_icmp(step, action, after) {
        return;
    }
    let put_in = without_tunnel(step, after, &step.frame).filter(|_| action == Action::Forward);
    let taken_out = without_tunnel(step, &step.frame, after).filter(|_| action == Action::Pass);
    let before = taken_out.as_deref().unwrap_or(&step.frame);
    let after = put_in.as_deref().unwrap_or(after);
    assert_eq!(before.len(), after.len(), "the length has changed");
    let places = places(step, before);
    let Some(places) = places else {
        assert_eq!(before, after, "no packet of ours, and touched");
        return;
    };
    let is_sent_on = matches!(action, Action::Bounce | Action::Forward);
    for at in 0..before.len() {
        // A reset has other numbers and flags than what it answers.
        let is_of_reset = action == Action::Bounce
            && places.protocol == TCP
            && (places.transport + 4..places.transport + 14).contains(&at);
        let may_change = places.is_of_translation(at)
            || is_of_reset
            || (is_sent_on && (at == places.ttl() || (at < 12 && !step.bare)));
        assert!(
            may_change || before[at] == after[at],
            "byte {at} has changed"
        );
    }
    let was = Checksums::of(before, &places);
    let is = Checksums::of(after, &places);
    if was.network == Some(true) {
        assert_eq!(is.network, Some(true), "the IPv4 checksum broke");
    }
    if was.transport == Some(true) {
        assert_eq!(is.transport, Some(true), "the transport checksum broke");
    }
}
