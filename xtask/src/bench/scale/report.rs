//! The results, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{super::memory::in_mebibytes, Memory, Results};
use crate::terminal;

/// Prints what was found, a line each.
pub(in super::super) fn print_table(results: &Results) {
    terminal::heading(&title(results));
    for (name, value) in rows(results) {
        println!("  {name:<44} {value:>12}");
    }
}

fn title(results: &Results) -> String {
    let families = if results.dual_stack {
        "IPv4 and IPv6"
    } else {
        "IPv4"
    };
    format!(
        "{} Services with {} endpoints each, {families}",
        results.services, results.endpoints
    )
}

fn rows(results: &Results) -> Vec<(String, String)> {
    let Results {
        latency, synced, ..
    } = results;
    let mut rows = vec![
        ("first sync".to_owned(), seconds(results.first_sync)),
        (
            "memory, resident (VmRSS)".to_owned(),
            in_mebibytes(synced.resident),
        ),
        (
            "  heap and stacks (RssAnon)".to_owned(),
            in_mebibytes(synced.anonymous),
        ),
        (
            "  program and mapped maps (RssFile)".to_owned(),
            in_mebibytes(synced.file),
        ),
        (
            "  shared (RssShmem)".to_owned(),
            in_mebibytes(synced.shared),
        ),
        (
            "  at most until then (VmHWM)".to_owned(),
            in_mebibytes(synced.peak),
        ),
        (
            "maps in the kernel (memlock)".to_owned(),
            in_mebibytes(results.map_bytes),
        ),
    ];
    if latency.count > 0 {
        let changes = format!("{} changes at {} a second", latency.count, results.rate);
        rows.extend([
            (
                format!("latency of {changes}, p50"),
                milliseconds(latency.p50),
            ),
            ("  p99".to_owned(), milliseconds(latency.p99)),
            ("  max".to_owned(), milliseconds(latency.max)),
        ]);
    }
    if results.churn > 0 {
        rows.extend([
            (
                format!("flood of {} changes", results.churn),
                seconds(results.churn_took),
            ),
            (
                "  resident before".to_owned(),
                in_mebibytes(results.before_churn.resident),
            ),
            (
                "  resident after".to_owned(),
                in_mebibytes(results.after_churn.resident),
            ),
            (
                "  at most (VmHWM)".to_owned(),
                in_mebibytes(results.after_churn.peak),
            ),
        ]);
    }
    rows
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// The same as one object; seconds and bytes.
pub(in super::super) fn json(results: &Results) -> Value {
    json!({
        "services": results.services,
        "endpoints_each": results.endpoints,
        "dual_stack": results.dual_stack,
        "first_sync_seconds": results.first_sync.as_secs_f64(),
        "memory": memory(&results.synced),
        "map_bytes": results.map_bytes,
        "latency": {
            "changes": results.latency.count,
            "changes_per_second": results.rate,
            "p50_seconds": results.latency.p50.as_secs_f64(),
            "p99_seconds": results.latency.p99.as_secs_f64(),
            "max_seconds": results.latency.max.as_secs_f64(),
        },
        "churn": {
            "changes": results.churn,
            "seconds": results.churn_took.as_secs_f64(),
            "memory_before": memory(&results.before_churn),
            "memory_after": memory(&results.after_churn),
        },
    })
}

fn memory(memory: &Memory) -> Value {
    json!({
        "resident_bytes": memory.resident,
        "peak_bytes": memory.peak,
        "anonymous_bytes": memory.anonymous,
        "file_bytes": memory.file,
        "shared_bytes": memory.shared,
    })
}
