//! The table of what was asked and who answered.

use std::{collections::BTreeSet, time::Duration};

use proxy_tests::lab::{Family, Tally};

use crate::terminal;

/// A request that takes this long got there by a retransmission.
const SLOW: Duration = Duration::from_secs(1);
/// How many failures of a row are shown in full.
const SHOWN: usize = 3;

/// One frontend, asked by one client over one family.
pub(super) struct Row {
    pub(super) frontend: String,
    pub(super) client: String,
    pub(super) family: Family,
    pub(super) tally: Tally,
    /// The pods each of which must have answered.
    pub(super) required: BTreeSet<String>,
    /// The pods that may have answered besides.
    pub(super) allowed: BTreeSet<String>,
}

impl Row {
    /// What is wrong with it, a line each.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for pod in &self.required {
            if !self.tally.answers.contains_key(pod) {
                faults.push(format!("{pod} never answered"));
            }
        }
        for pod in self.tally.answers.keys() {
            if !self.required.contains(pod) && !self.allowed.contains(pod) {
                faults.push(format!("\"{pod}\" answered, which is no endpoint"));
            }
        }
        if self.tally.slowest >= SLOW && self.tally.failures.is_empty() {
            let slowest = self.tally.slowest.as_secs_f64();
            faults.push(format!("a request took {slowest:.1} s: packets were lost"));
        }
        let failures = &self.tally.failures;
        faults.extend(failures.iter().take(SHOWN).cloned());
        if failures.len() > SHOWN {
            faults.push(format!("and {} failures more", failures.len() - SHOWN));
        }
        faults
    }

    /// Prints the row, and below it what is wrong.
    pub(super) fn print(&self) {
        let answers = self.tally.answers.iter();
        let answers: Vec<_> = answers
            .map(|(pod, count)| format!("{pod} {count:>3}"))
            .collect();
        let failed = format!("{:>6}", self.tally.failures.len());
        let faults = self.faults();
        let verdict = if faults.is_empty() {
            terminal::green("ok")
        } else {
            terminal::red("!!")
        };
        println!(
            "  {verdict}  {:<40} {:<8} {:<6} {:>8} {:>8} {}  {}",
            self.frontend,
            self.client,
            self.family,
            self.tally.requests(),
            format!("{:.1} ms", self.tally.slowest.as_secs_f64() * 1000.0),
            if self.tally.failures.is_empty() {
                failed
            } else {
                terminal::red(&failed)
            },
            answers.join("  "),
        );
        for fault in faults {
            println!("      {}", terminal::red(&fault));
        }
    }
}

/// Prints the names of the columns.
pub(super) fn print_head() {
    let head = format!(
        "      {:<40} {:<8} {:<6} {:>8} {:>8} {:>6}  {}",
        "frontend", "client", "family", "requests", "slowest", "failed", "answered by"
    );
    println!("{}", terminal::dim(&head));
}

/// Prints the verdict over all rows; true if nothing is wrong.
pub(super) fn conclude(rows: &[Row], took: Duration) -> bool {
    let requests: usize = rows.iter().map(|row| row.tally.requests()).sum();
    let failed: usize = rows.iter().map(|row| row.tally.failures.len()).sum();
    let wrong = rows.iter().filter(|row| !row.faults().is_empty()).count();
    let good = wrong == 0;
    let verdict = if good {
        terminal::green("All as expected:")
    } else {
        terminal::red(&format!(
            "{wrong} of {} rows are not as expected:",
            rows.len()
        ))
    };
    let seconds = took.as_secs_f64();
    println!("\n{verdict} {requests} requests, {failed} failed, in {seconds:.1} s.");
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(answered: &[&str], failures: &[&str]) -> Row {
        let mut tally = Tally::default();
        for pod in answered {
            tally.add(Ok((*pod).to_owned()), Duration::from_millis(1));
        }
        tally.failures = failures.iter().map(|it| (*it).to_owned()).collect();
        Row {
            frontend: "web ClusterIP 10.96.0.10:80".into(),
            client: "outside".into(),
            family: Family::V4,
            tally,
            required: ["a".to_owned(), "b".to_owned()].into(),
            allowed: ["c".to_owned()].into(),
        }
    }

    #[test]
    fn a_lost_packet_is_a_fault_though_the_answer_came() {
        let mut late = row(&["a"], &[]);
        late.tally.add(Ok("b".into()), SLOW);
        assert_eq!(late.faults().len(), 1);
    }

    #[test]
    fn a_row_is_good_only_if_all_required_and_no_others_answered() {
        assert!(row(&["a", "b"], &[]).faults().is_empty());
        assert!(row(&["a", "b", "c"], &[]).faults().is_empty());
        assert_eq!(row(&["a"], &[]).faults(), ["b never answered"]);
        assert_eq!(row(&["a", "b", "d"], &[]).faults().len(), 1);
        assert_eq!(row(&["a", "b"], &["reset"; 5]).faults().len(), SHOWN + 1);
    }
}
