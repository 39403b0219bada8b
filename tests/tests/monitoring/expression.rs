//! Expressions, held against what is exported.

use std::collections::{BTreeMap, BTreeSet};

use crate::exported::Metric;
use crate::promql::{Query, Selector};

/// The labels that scrape.yaml gives to every target.
const OF_TARGETS: [&str; 2] = ["job", "instance"];
/// Prometheus' own metric of targets.
const UP: &str = "up";

/// What is wrong with an expression that is shown with `labels`; empty where nothing is.
pub(crate) fn mistakes(
    expression: &str,
    labels: &[&str],
    exported: &BTreeMap<String, Metric>,
) -> Vec<String> {
    let query = Query::of(expression);
    let mut mistakes = Vec::new();
    let mut known = BTreeSet::new();
    for selector in &query.selectors {
        match metric_of(selector, exported) {
            Some(of_metric) => {
                mistakes.extend(unknown_matchers(selector, &of_metric));
                known.extend(of_metric.into_keys());
            }
            None => mistakes.push(format!("no metric {}", selector.metric)),
        }
    }
    if query.selectors.is_empty() {
        mistakes.push("no metric at all".to_owned());
    }
    let unknown = query.grouping.difference(&known);
    mistakes.extend(unknown.map(|label| format!("grouped by {label}, which no metric has")));
    // What is not aggregated keeps all labels.
    let remaining = if query.grouping.is_empty() {
        &known
    } else {
        &query.grouping
    };
    let lost = labels.iter().filter(|label| !remaining.contains(**label));
    mistakes.extend(lost.map(|label| format!("shows the label {label}, which is not there")));
    mistakes
}

/// The labels of a selector's metric with their values, as far as these are known.
fn metric_of(
    selector: &Selector,
    exported: &BTreeMap<String, Metric>,
) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let name = selector.metric.as_str();
    let mut labels = BTreeMap::new();
    if name != UP {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|part| exported.get(name.strip_suffix(part)?))
            .filter(|metric| metric.kind == "histogram");
        let plain = exported.get(name);
        let plain = plain.filter(|metric| metric.kind != "histogram");
        labels.clone_from(&of_histogram.or(plain)?.labels);
    }
    if name.ends_with("_bucket") {
        labels.insert("le".to_owned(), BTreeSet::new());
    }
    labels.extend(OF_TARGETS.map(|label| (label.to_owned(), BTreeSet::new())));
    Some(labels)
}

/// Labels that the metric has not, and values that none of them has.
fn unknown_matchers(
    selector: &Selector,
    labels: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let mistake = |[label, operator, value]: &[String; 3]| {
        let Some(values) = labels.get(label) else {
            return Some(format!("{} has no label {label}", selector.metric));
        };
        let is_regex = operator.ends_with('~');
        let is_known = |part: &str| values.iter().any(|value| matches(value, part, is_regex));
        let mut parts = value.split('|');
        let is_good = values.is_empty() || parts.all(is_known);
        (!is_good).then(|| format!("{} is never {value} of {label}", selector.metric))
    };
    selector.matchers.iter().filter_map(mistake).collect()
}

/// Of regular expressions those that are in use: a text, or the beginning of one.
fn matches(value: &str, pattern: &str, is_regex: bool) -> bool {
    match pattern.strip_suffix(".*") {
        Some(beginning) if is_regex => value.starts_with(beginning),
        _ => value == pattern,
    }
}

#[test]
fn what_is_not_exported_is_found() {
    let exported = crate::exported::exported();
    for (expression, labels, mistake) in [
        ("proxy_agent_devices", &["instance"][..], None),
        (
            "sum(rate(proxy_agent_drops_total{reason=\"no_endpoints\"}[5m])) by (reason)",
            &["reason"],
            None,
        ),
        (
            "proxy_agent_map_pressure{map=~\"FLOWS_.*|SLOTS\"}",
            &[],
            None,
        ),
        (
            "proxy_agent_divices",
            &[],
            Some("no metric proxy_agent_divices"),
        ),
        (
            "proxy_agent_programming_duration_seconds",
            &[],
            Some("no metric"),
        ),
        ("proxy_agent_devices_count", &[], Some("no metric")),
        (
            "proxy_agent_devices{map=\"x\"}",
            &[],
            Some("has no label map"),
        ),
        (
            "proxy_agent_drops_total{reason=\"none\"}",
            &[],
            Some("is never none of reason"),
        ),
        (
            "proxy_agent_map_pressure{map!~\"FLOW.*|BACK_.*\"}",
            &[],
            Some("is never"),
        ),
        (
            "sum by (mop) (proxy_agent_map_pressure)",
            &[],
            Some("grouped by mop"),
        ),
        (
            "sum by (map) (proxy_agent_map_pressure)",
            &["instance"],
            Some("shows the label instance"),
        ),
        ("vector(1)", &[], Some("no metric at all")),
    ] {
        let found = mistakes(expression, labels, &exported);
        match mistake {
            None => assert!(found.is_empty(), "{expression}: {found:?}"),
            Some(part) => {
                assert_eq!(found.len(), 1, "{expression}: {found:?}");
                assert!(found[0].contains(part), "{expression}: {found:?}");
            }
        }
    }
}
