//! What the model makes of Kubernetes objects: from YAML to the desired state.
//!
//! The cases are in `tests/model/cases/`, written by hand, and in
//! `tests/model/generated.rs`, made from tables. `tests/model/case.rs` explains
//! how they are written.

mod model;

use model::case::{Case, parse};

/// Cases written by hand; a number too low means that some were not found.
fn run_text(text: &str, at_least: usize) {
    let cases = parse(text);
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    run(&cases);
}

/// Runs cases, and reports all that fail.
fn run(cases: &[Case]) {
    let failures: Vec<_> = cases.iter().filter_map(|case| case.run().err()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} cases fail\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn services_and_their_ports() {
    run_text(include_str!("model/cases/services.txt"), 18);
}

#[test]
fn endpoints_and_their_slices() {
    run_text(include_str!("model/cases/endpoints.txt"), 22);
}

#[test]
fn addresses_from_outside() {
    run_text(include_str!("model/cases/outside.txt"), 17);
}

#[test]
fn changes_over_time() {
    run_text(include_str!("model/cases/changes.txt"), 18);
}

#[test]
fn warnings() {
    run_text(include_str!("model/cases/warnings.txt"), 12);
}

#[test]
fn source_ranges() {
    run_text(include_str!("model/cases/source_ranges.txt"), 11);
}

#[test]
fn algorithms() {
    run_text(include_str!("model/cases/algorithms.txt"), 5);
}

#[test]
fn weights() {
    run_text(include_str!("model/cases/weights.txt"), 4);
}

#[test]
fn forwarding() {
    run_text(include_str!("model/cases/forwarding.txt"), 6);
}

#[test]
fn unanswered() {
    run_text(include_str!("model/cases/unanswered.txt"), 5);
}

#[test]
fn readiness_by_policy_and_family() {
    let cases = model::generated::readiness();
    assert!(cases.len() >= 150, "only {} cases", cases.len());
    run(&cases);
}

#[test]
fn hints_by_zone_and_family() {
    let cases = model::generated::hints();
    assert!(cases.len() >= 80, "only {} cases", cases.len());
    run(&cases);
}
