//! Durations as Go writes them, such as `1m30s` and `100ms`
//! (<https://pkg.go.dev/time#ParseDuration>).

use std::fmt;
use std::time::Duration;

/// A duration in nanoseconds, which like Go's may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GoDuration(pub(super) i64);

const SECOND: i128 = 1_000_000_000;

/// Longer units first where one begins like another.
const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

impl GoDuration {
    /// Reads what Go reads; `None` for everything else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (sign, mut rest) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
            let (number, after) = rest.split_at(number_end);
            let (unit, scale) = UNITS
                .into_iter()
                .find(|(unit, _)| after.starts_with(unit))?;
            total = total.checked_add(scaled(number, scale)?)?;
            rest = &after[unit.len()..];
        }
        i64::try_from(sign * total).ok().map(Self)
    }

    /// The same for the standard library; nothing where it is negative.
    pub(super) fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

/// A decimal number such as `1.5` times `scale`.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: i128 = match whole {
        "" => 0,
        digits => digits.parse::<i64>().ok()?.into(),
    };
    let mut total = whole.checked_mul(scale)?;
    let mut place = scale;
    for digit in fraction.bytes() {
        place /= 10;
        total += i128::from(digit - b'0') * place;
    }
    Some(total)
}

impl fmt::Display for GoDuration {
    /// As Go prints it, such as `24h0m0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let second: u64 = 1_000_000_000;
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < second {
            let (scale, unit) = match nanos {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "\u{b5}s"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{unit}", decimal(nanos, scale));
        }
        let (hours, minutes) = (nanos / second / 3600, nanos / second / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % (60 * second), second))
    }
}

/// `nanos` in units of `scale`, with no more digits than needed.
fn decimal(nanos: u64, scale: u64) -> String {
    let (whole, rest) = (nanos / scale, nanos % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read_and_printed_as_go_prints_it() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("-0", 0, "0s"),
            ("1ns", 1, "1ns"),
            ("1.5us", 1_500, "1.5\u{b5}s"),
            ("2\u{b5}s", 2_000, "2\u{b5}s"),
            ("2\u{3bc}s", 2_000, "2\u{b5}s"),
            ("100ms", 100_000_000, "100ms"),
            ("250ms", 250_000_000, "250ms"),
            ("30s", 30_000_000_000, "30s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            (".5s", 500_000_000, "500ms"),
            ("1.s", 1_000_000_000, "1s"),
            ("1m", 60_000_000_000, "1m0s"),
            ("1m0s", 60_000_000_000, "1m0s"),
            ("90s", 90_000_000_000, "1m30s"),
            ("15m0s", 900_000_000_000, "15m0s"),
            ("2h22m", 8_520_000_000_000, "2h22m0s"),
            ("24h0m0s", 86_400_000_000_000, "24h0m0s"),
            ("-5s", -5_000_000_000, "-5s"),
            ("+5s", 5_000_000_000, "5s"),
            ("1s1m", 61_000_000_000, "1m1s"),
        ] {
            let parsed = GoDuration::parse(text);
            assert_eq!(parsed, Some(GoDuration(nanos)), "{text}");
            assert_eq!(GoDuration(nanos).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "-",
            "+",
            "30",
            "s",
            ".s",
            "1.2.3s",
            "1 s",
            " 1s",
            "1s ",
            "1d",
            "1S",
            "1e3s",
            "--1s",
            "9223372036854775808ns",
            "2562048h",
            "1m30",
            "1\u{fc}s",
        ] {
            assert_eq!(GoDuration::parse(text), None, "{text}");
        }
    }
}
