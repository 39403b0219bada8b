//! What `trace` prints of some packets.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::{Address, TraceListener, ticks, trace_kinds};

use super::check;
use super::fixture::{NOW, maps, open_flows, question, send};
use crate::cli::list::Format;
use crate::cli::trace::Lines;
use crate::inspect::trace::{Clocks, Lookup, TraceRow};
use crate::inspect::{Filter, Names, ServiceRef, State};
use crate::maps::TraceRecord;
use crate::model::object::Protocol;

struct FixedNames<'a>(&'a State);

impl Lookup for FixedNames<'_> {
    fn service(&self, id: u32) -> ServiceRef {
        Names::new(&self.0.content.service_names).of(id)
    }

    fn service_at(&self, destination: SocketAddr, _: u8) -> Option<u32> {
        let mut frontends = self.0.content.frontends.iter();
        let found = frontends
            .find(|(id, _)| (id.address, id.port) == (destination.ip(), destination.port()));
        found.map(|(_, value)| value.service)
    }

    fn device(&self, index: u32) -> String {
        format!("veth{index}")
    }
}

fn records<A: Address + Into<std::net::IpAddr>>(memory: &Memory<A>) -> Vec<TraceRecord> {
    let events = memory.trace_events.borrow();
    let records = events.iter().map(|event| TraceRecord::of(event).unwrap());
    records.collect()
}

/// The rows of some flows, and of packets that are refused.
fn rows() -> Vec<TraceRow> {
    let maps = maps();
    maps.v4.shared.trace_listener.set(TraceListener {
        until: NOW,
        kinds: trace_kinds::NEW_FLOWS | trace_kinds::DROPS,
    });
    let (state, copies) = open_flows(maps);
    for (source, destination) in [
        ("10.244.1.9:40001", "10.96.0.11:80"),
        ("203.0.114.9:40002", "198.51.100.1:80"),
        ("10.244.1.9:40003", "10.96.0.10:81"),
    ] {
        send(&question(source, destination, Protocol::Tcp), &copies);
    }
    let clocks = Clocks {
        since_boot: Duration::from_nanos((u64::from(NOW) << ticks::SHIFT) + 1_500_000),
        // 2026-11-30T05:13:00Z
        utc: UNIX_EPOCH + Duration::from_mins(29_933_593),
    };
    let records = [records(&copies.0), records(&copies.1)].concat();
    let rows = records.iter();
    rows.map(|it| TraceRow::new(it, &FixedNames(&state), clocks))
        .collect()
}

fn printed(rows: &[TraceRow], filter: &Filter, format: Format, lost: u64) -> String {
    let mut out = Vec::new();
    let mut lines = Lines::new(&mut out, format);
    for row in rows {
        lines.push(row, row.is_wanted(filter)).unwrap();
    }
    lines.lost(lost).unwrap();
    assert_eq!(lines.finish().unwrap(), lost);
    String::from_utf8(out).unwrap()
}

#[test]
fn events_are_printed_a_line_each() {
    let rows = rows();
    let all = Filter::default();
    let text = printed(&rows, &all, Format::Table, 0);
    check("trace.txt", &text);
    check("trace-wide.txt", &printed(&rows, &all, Format::Wide, 0));
    let json = printed(&rows, &all, Format::Json, 7);
    check("trace.json", &json);
    for line in json.lines() {
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["apiVersion"], "proxy-agent/v1");
    }
}

#[test]
fn events_of_others_are_counted_and_not_printed() {
    let filter = Filter {
        service: Some("kube-system/kube-dns".parse().unwrap()),
        ..Filter::default()
    };
    let text = printed(&rows(), &filter, Format::Table, 3);
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("kube-system/kube-dns:dns"), "{text}");
    assert!(text.contains("-- 3 events lost"), "{text}");
    assert!(
        text.ends_with("-- 7 events, 1 shown, 3 lost --\n"),
        "{text}"
    );
}
