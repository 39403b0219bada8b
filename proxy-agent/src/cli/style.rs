//! Colours, by which somebody at a terminal sees what is not as it should be.
//!
//! Texts have them always; `anstream` takes them out again where nobody sees them: in files and
//! pipes, and where `NO_COLOR` asks for that (<https://no-color.org>).

use anstyle::{AnsiColor, Style};

/// Of headers.
pub(super) const HEADER: Style = Style::new().bold();

const GOOD: Style = AnsiColor::Green.on_default();
const DOUBTFUL: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// The style of a word that says how something is; plain for all others.
fn of_word(word: &str) -> Style {
    match word {
        "serving" | "ready" | "ok" => GOOD,
        "suspect" | "draining" | "starting" | "standby" | "warning" | "unknown" | "refuse" => {
            DOUBTFUL
        }
        "unhealthy" | "error" | "drop" | "time-out" | "not programmed" => BAD,
        _ => Style::new(),
    }
}

/// A word that says how something is, in its colour.
pub(super) fn state(word: &str) -> String {
    painted(of_word(word), word)
}

/// A line whose first word says how something is.
pub(super) fn begins_with_state(line: &str) -> String {
    let end = line.find(' ').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    state(word) + rest
}

/// A text in a style.
pub(super) fn painted(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_say_nothing_of_a_state_are_plain() {
        assert_eq!(state("10.96.0.10:80"), "10.96.0.10:80");
        assert_ne!(state("suspect"), "suspect");
        let line = begins_with_state("error    cgroup2");
        assert_eq!(
            anstream::adapter::strip_str(&line).to_string(),
            "error    cgroup2"
        );
        assert!(line.ends_with("    cgroup2"));
        assert_eq!(begins_with_state("   error"), "   error");
    }
}
