//! Findings, as they are printed.

use std::fmt::Write as _;

use serde_json::json;

use super::{Finding, State};

/// Columns of a line.
const WIDTH: usize = 120;
/// Columns before the text.
const INDENT: usize = 28;

/// A line for each finding, and below it what to do.
pub fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let head = format!("{:<8} {:<18} ", finding.state.name(), finding.check);
        push(&mut text, &head, &finding.found);
        if let Some(advice) = &finding.advice {
            push(&mut text, "", &format!("-> {advice}"));
        }
    }
    let count = |state| findings.iter().filter(|it| it.state == state).count();
    let _ = writeln!(
        text,
        "{} errors, {} unknown, {} warnings",
        count(State::Error),
        count(State::Unknown),
        count(State::Warning)
    );
    text
}

/// A text behind its head, in lines.
fn push(text: &mut String, head: &str, words: &str) {
    let mut line = format!("{head:<INDENT$}");
    let mut is_first = true;
    for word in words.split(' ') {
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{}", line.trim_end());
            line = " ".repeat(INDENT);
        } else if !is_first {
            line.push(' ');
        }
        line.push_str(word);
        is_first = false;
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

/// The state of all, and each finding: `check` and `state` are stable, the texts are for people.
pub fn json(findings: &[Finding]) -> String {
    let state = findings.iter().map(|it| it.state).max();
    let report = json!({"state": state.unwrap_or(State::Ok), "findings": findings});
    format!("{report:#}\n")
}
