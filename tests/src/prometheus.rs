//! Prometheus' text format, version 0.0.4, read strictly
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// Labels with their values.
pub type Labels = BTreeMap<String, String>;

/// What `/metrics` said.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    /// The families by name.
    pub families: BTreeMap<String, Family>,
}

/// One metric with all its labels' values.
#[derive(Clone, Debug)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// What it is.
    pub help: String,
    /// Name, labels and value of each sample.
    pub samples: Vec<(String, Labels, f64)>,
}

impl Exposition {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// A family without HELP or TYPE or with two of them, a sample of another family or
    /// twice, a name or a label that is none, a value that is no number, a histogram
    /// that does not add up.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.ends_with('\n'), "the last line is cut off");
        let mut found = Self::default();
        let mut current = None;
        let mut help = None;
        for line in text.lines() {
            let read = found.line(line, &mut current, &mut help);
            read.with_context(|| format!("in the line {line:?}"))?;
        }
        for (name, family) in &found.families {
            family.check(name).with_context(|| name.clone())?;
        }
        Ok(found)
    }

    /// The value of a sample, by name and all of its labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples
            .filter(|(of, found, _)| of == name && *found == labels)
            .map(|(_, _, value)| *value)
            .next()
    }

    fn line(
        &mut self,
        line: &str,
        current: &mut Option<String>,
        help: &mut Option<(String, String)>,
    ) -> Result<()> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').context("no text")?;
            ensure!(!text.trim().is_empty(), "an empty text");
            ensure!(help.is_none(), "a HELP without its TYPE before");
            *help = Some((name.to_owned(), text.to_owned()));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type")?;
            ensure!(is_name(name), "no name");
            ensure!(matches!(kind, "counter" | "gauge" | "histogram"), "no type");
            let (helped, help) = help.take().context("no HELP")?;
            ensure!(helped == name, "the HELP is for {helped}");
            let family = Family {
                kind: kind.to_owned(),
                help,
                samples: Vec::new(),
            };
            let before = self.families.insert(name.to_owned(), family);
            ensure!(before.is_none(), "twice");
            *current = Some(name.to_owned());
        } else {
            let name = current.as_ref().context("a sample of nothing")?;
            let family = self.families.get_mut(name).context("a family")?;
            let sample = sample(line)?;
            let suffix = sample
                .0
                .strip_prefix(name.as_str())
                .context("of another family")?;
            let is_part = match family.kind.as_str() {
                "histogram" => matches!(suffix, "_bucket" | "_sum" | "_count"),
                _ => suffix.is_empty(),
            };
            ensure!(is_part, "a sample of another family");
            family.samples.push(sample);
        }
        Ok(())
    }
}

impl Family {
    /// The names of its labels, but for a histogram's `le`.
    pub fn labels(&self) -> BTreeSet<&str> {
        let names = self.samples.iter().flat_map(|(_, labels, _)| labels.keys());
        names
            .map(String::as_str)
            .filter(|name| *name != "le")
            .collect()
    }

    fn check(&self, name: &str) -> Result<()> {
        ensure!(!self.samples.is_empty(), "no samples");
        let keys: BTreeSet<_> = self
            .samples
            .iter()
            .map(|(name, labels, _)| (name, labels))
            .collect();
        ensure!(keys.len() == self.samples.len(), "a sample twice");
        match self.kind.as_str() {
            "counter" => {
                ensure!(name.ends_with("_total"), "a counter without _total");
                let is_good = |(_, _, value): &(String, Labels, f64)| *value >= 0.0;
                ensure!(self.samples.iter().all(is_good), "a negative counter");
            }
            "histogram" => self.check_histogram(name)?,
            _ => {}
        }
        Ok(())
    }

    /// Buckets that rise to the count.
    fn check_histogram(&self, name: &str) -> Result<()> {
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for (sample, labels, value) in &self.samples {
            if sample.ends_with("_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").context("a bucket without le")?;
                series
                    .entry(labels)
                    .or_default()
                    .push((number(&bound)?, *value));
            }
        }
        for (labels, buckets) in series {
            ensure!(
                buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
                "buckets that do not rise: {buckets:?}"
            );
            let last = buckets.last().context("no buckets")?;
            ensure!(last.0 == f64::INFINITY, "no bucket +Inf");
            let find = |suffix: &str| {
                let of = format!("{name}{suffix}");
                let mut found = self.samples.iter();
                found.find(|(sample, of_labels, _)| *sample == of && *of_labels == labels)
            };
            let (_, _, count) = find("_count").context("no count")?;
            ensure!((last.1 - count).abs() < f64::EPSILON, "not the count");
            find("_sum").context("no sum")?;
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let is_good = |char: char| char.is_ascii_alphanumeric() || char == '_';
    text.starts_with(|char: char| char.is_ascii_alphabetic()) && text.chars().all(is_good)
}

fn number(text: &str) -> Result<f64> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        text => text
            .parse()
            .with_context(|| format!("{text:?} is no number")),
    }
}

/// Name, labels and value; escapes in values do not occur here.
fn sample(line: &str) -> Result<(String, Labels, f64)> {
    let (head, value) = line.rsplit_once(' ').context("no value")?;
    let value = number(value)?;
    let (name, inside) = match head.split_once('{') {
        None => (head, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').context("no end of labels")?),
    };
    ensure!(is_name(name), "no name");
    let mut labels = Labels::new();
    for pair in inside.split(',').filter(|pair| !pair.is_empty()) {
        let (label, quoted) = pair.split_once('=').context("no label")?;
        ensure!(is_name(label), "no label's name");
        let bare = quoted
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let value = bare.context("a value without quotes")?;
        if labels.insert(label.to_owned(), value.to_owned()).is_some() {
            bail!("the label {label} twice");
        }
    }
    Ok((name.to_owned(), labels, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_total Something.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n\
        # HELP h Something.\n# TYPE h histogram\nh_bucket{le=\"0.1\"} 1\nh_bucket{le=\"+Inf\"} 3\n\
        h_sum 4.5\nh_count 3\n";

    #[test]
    fn a_good_text_is_read() {
        let found = Exposition::parse(GOOD).unwrap();
        assert_eq!(found.value("a_total", &[("x", "1")]), Some(2.0));
        assert_eq!(found.value("h_count", &[]), Some(3.0));
        assert_eq!(found.value("a_total", &[]), None);
    }

    #[test]
    fn mistakes_are_found() {
        for (good, bad) in [
            ("# HELP a_total Something.\n", ""),
            ("# TYPE a_total counter\n", ""),
            ("counter", "kounter"),
            ("a_total{", "b_total{"),
            ("a_total{x=\"1\"} 2\n", ""),
            ("a_total{x=\"1\"} 2", "a_total{x=\"1\"} -2"),
            ("a_total{x=\"1\"} 2", "a_total{x=1} 2"),
            (
                "a_total{x=\"1\"} 2\n",
                "a_total{x=\"1\"} 2\na_total{x=\"1\"} 2\n",
            ),
            ("h_bucket{le=\"+Inf\"} 3\n", ""),
            ("h_count 3", "h_count 4"),
            ("h_bucket{le=\"0.1\"} 1", "h_bucket{le=\"0.1\"} 9"),
            ("h_sum 4.5", "h_sum x"),
            ("h_count 3\n", "h_count 3"),
        ] {
            let text = GOOD.replace(good, bad);
            assert_ne!(text, GOOD);
            assert!(Exposition::parse(&text).is_err(), "{text}");
        }
    }
}
