//! docs/METRICS.md.

use std::fmt::Write as _;
use std::{env, fs};

use crate::exported::{Metric, exported};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");

/// With this variable the document is written.
const UPDATE: &str = "UPDATE_DOCS";

const HEAD: &str = "\
# Metrics

What an agent exports at `/metrics` (`metricsBindAddress`, by default `127.0.0.1:10249`). Generated
from the code that exports it, not edited by hand:

```console
# UPDATE_DOCS=1 cargo test -p proxy-tests --test monitoring document
```

What they mean for an operator is in [AGENT.md](AGENT.md#metrics); alerts and a dashboard are in
[manifests/monitoring](../manifests/monitoring). Of a label all values are listed where they are
known from the start; the others come with what is measured.
";

const SECTIONS: [(&str, &str, &str); 5] = [
    (
        "proxy_agent_",
        "This proxy's own",
        "Counters of the data path outlive the agent. Of Services and endpoints only those are exported\n\
         that had traffic on this node.",
    ),
    (
        "kubeproxy_",
        "kube-proxy's",
        "With kube-proxy's names, types, labels and buckets.",
    ),
    (
        "rest_client_",
        "Requests to the API server",
        "With client-go's names. They are there from the first request on; a request without an answer\n\
         has the code `<error>`.",
    ),
    ("kubernetes_", "Any component of Kubernetes", "Constants."),
    (
        "process_",
        "Any process",
        "Those of Prometheus' client libraries.",
    ),
];

fn page() -> String {
    let metrics: Vec<_> = exported().into_values().collect();
    let mut page = HEAD.to_owned();
    let mut listed = 0;
    for (prefix, title, about) in SECTIONS {
        let of_section = || metrics.iter().filter(|it| it.name.starts_with(prefix));
        let _ = writeln!(page, "\n## {title}\n\n{about}\n");
        page.push_str("| metric | type | labels | what |\n|---|---|---|---|\n");
        of_section().for_each(|metric| page.push_str(&row(metric)));
        listed += of_section().count();
        for metric in of_section().filter(|metric| !metric.buckets.is_empty()) {
            let _ = writeln!(
                page,
                "\nBuckets of `{}`:\n{}.",
                metric.name,
                wrapped(&metric.buckets)
            );
        }
    }
    assert_eq!(listed, metrics.len(), "each metric is in a section");
    page
}

fn row(metric: &Metric) -> String {
    let labels = metric.labels.iter().map(|(label, values)| {
        let values: Vec<_> = values.iter().filter(|it| !it.is_empty()).collect();
        if values.is_empty() {
            return format!("`{label}`");
        }
        let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
        format!("`{label}`: {}", values.join(", "))
    });
    let labels: Vec<_> = labels.collect();
    let Metric {
        name, kind, help, ..
    } = metric;
    format!("| `{name}` | {kind} | {} | {help} |\n", labels.join("; "))
}

/// A list of numbers in lines of bearable length.
fn wrapped(numbers: &[String]) -> String {
    let mut text = String::new();
    let mut length = 0;
    for (at, number) in numbers.iter().enumerate() {
        let separator = match at {
            0 => "",
            _ if length + number.len() > 95 => ",\n",
            _ => ", ",
        };
        length = if separator.ends_with('\n') {
            0
        } else {
            length + 2
        };
        length += number.len();
        text.push_str(separator);
        text.push_str(number);
    }
    text
}

#[test]
fn the_document_has_what_is_exported() {
    let page = page();
    if env::var_os(UPDATE).is_some() {
        fs::write(DOCUMENT, &page).unwrap();
    }
    let written = fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert!(
        written == page,
        "docs/METRICS.md is not what is exported: set {UPDATE}=1 and run this test again"
    );
}
