//! What was compared, so that a test that meets nothing fails.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// How many differences are told.
const TOLD: usize = 12;

#[derive(Default)]
pub(crate) struct Tally {
    verdicts: BTreeMap<(String, String), [u64; 2]>,
    reasons: BTreeMap<(String, String), u64>,
    crossed: u64,
    differences: usize,
}

impl Tally {
    /// One that was compared.
    pub(crate) fn count(&mut self, path: &str, verdict: &str, had_state: bool) {
        let key = (path.to_owned(), verdict.to_owned());
        self.verdicts.entry(key).or_default()[usize::from(had_state)] += 1;
    }

    pub(crate) fn reason(&mut self, path: &str, reason: &str) {
        let key = (path.to_owned(), reason.to_owned());
        *self.reasons.entry(key).or_default() += 1;
    }

    /// One that was not, since a tick has ended meanwhile.
    pub(crate) fn crossed(&mut self) {
        self.crossed += 1;
    }

    pub(crate) fn differs(&mut self, what: &str) {
        self.differences += 1;
        if self.differences <= TOLD {
            println!("{what}");
        }
    }

    /// Prints it, and fails if anything has differed.
    pub(crate) fn end(&self, of: u64, to_be_met: &[(&str, &[&str])]) -> Result<()> {
        for ((path, verdict), [new, known]) in &self.verdicts {
            println!("{path:18} {verdict:12} {new:5} {known:5}");
        }
        for ((path, reason), count) in &self.reasons {
            println!("{path:18} {reason:22} {count:5}");
        }
        println!("{} of {of} not compared", self.crossed);
        ensure!(self.crossed * 5 < of, "few were compared");
        for (path, verdicts) in to_be_met {
            for verdict in *verdicts {
                let key = (String::from(*path), String::from(*verdict));
                ensure!(self.verdicts.contains_key(&key), "{path}: no {verdict}");
            }
        }
        ensure!(self.differences == 0, "{} differ", self.differences);
        Ok(())
    }
}
