//! The files of `manifests/monitoring`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::exported::exported;
use crate::expression::mistakes;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/monitoring")
}

fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&text(file)).unwrap()
}

fn dashboard() -> Value {
    serde_json::from_str(&text("dashboard.json")).unwrap()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn alerts() -> Vec<Value> {
    let rules = yaml("rules.yaml");
    let rules = list(&rules["groups"]).flat_map(|group| list(&group["rules"]));
    rules.cloned().collect()
}

/// The panels that show something, each with its queries.
fn panels() -> Vec<Value> {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    let shown = panels.into_iter().filter(|panel| panel["type"] != "row");
    shown.collect()
}

/// The words between two marks.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let parts = text.split(open).skip(1);
    parts
        .map(|part| part.split(close).next().unwrap().trim())
        .collect()
}

/// Runs promtool in the folder; where it is not installed, says so.
fn promtool(arguments: &[&str]) {
    let mut command = Command::new("promtool");
    match command.args(arguments).current_dir(folder()).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(output.status.success(), "promtool {arguments:?}: {said}");
        }
        Err(error) => println!("skipped: promtool {arguments:?}: {error}"),
    }
}

#[test]
fn alerts_ask_for_what_is_exported() {
    let exported = exported();
    assert!(!alerts().is_empty());
    for alert in alerts() {
        let name = string(&alert["alert"]);
        let annotations = alert["annotations"].to_string();
        let labels = between(&annotations, "$labels.", "}");
        let labels: Vec<_> = labels
            .into_iter()
            .map(|label| label.split([' ', '|']).next().unwrap())
            .collect();
        let found = mistakes(string(&alert["expr"]), &labels, &exported);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn alerts_say_how_bad_it_is_and_what_to_do() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = string(&alert["alert"]);
        assert!(names.insert(name.to_owned()), "{name} twice");
        let severity = string(&alert["labels"]["severity"]);
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        assert!(alert["annotations"]["summary"].is_string(), "{name}");
        assert!(alert["annotations"]["runbook"].is_string(), "{name}");
    }
}

/// As GitHub makes them of headings.
#[test]
fn each_alert_has_a_section_in_the_manual() {
    let manual = folder().join("../../docs/OPERATIONS.md");
    let manual = fs::read_to_string(manual).unwrap();
    let headings = manual.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<_> = headings
        .map(|line| {
            line.trim_start_matches(['#', ' '])
                .to_lowercase()
                .replace(' ', "-")
        })
        .collect();
    for alert in alerts() {
        let runbook = string(&alert["annotations"]["runbook"]);
        let anchor = runbook.strip_prefix("docs/OPERATIONS.md#").unwrap();
        assert!(anchors.contains(anchor), "{runbook}");
    }
}

/// Who has no test would not be missed.
#[test]
fn each_alert_is_raised_by_recorded_series() {
    let tests = yaml("tests.yaml");
    let raised: BTreeSet<_> = list(&tests["tests"])
        .flat_map(|test| list(&test["alert_rule_test"]))
        .filter(|test| list(&test["exp_alerts"]).next().is_some())
        .map(|test| string(&test["alertname"]).to_owned())
        .collect();
    let alerts = alerts();
    let names = alerts
        .iter()
        .map(|alert| string(&alert["alert"]).to_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), raised);
    promtool(&["check", "rules", "rules.yaml"]);
    promtool(&["test", "rules", "tests.yaml"]);
}

/// Series that no agent has would prove nothing.
#[test]
fn recorded_series_are_such_as_are_exported() {
    let exported = exported();
    let tests = yaml("tests.yaml");
    for series in list(&tests["tests"]).flat_map(|test| list(&test["input_series"])) {
        let series = string(&series["series"]);
        let found = mistakes(series, &[], &exported);
        assert!(found.is_empty(), "{series}: {found:?}");
    }
}

#[test]
fn the_dashboard_asks_for_what_is_exported() {
    let exported = exported();
    assert!(!panels().is_empty());
    for panel in panels() {
        let title = string(&panel["title"]);
        assert!(list(&panel["targets"]).next().is_some(), "{title}");
        for target in list(&panel["targets"]) {
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let labels = between(legend, "{{", "}}");
            let found = mistakes(string(&target["expr"]), &labels, &exported);
            assert!(found.is_empty(), "{title}: {found:?}");
        }
    }
    let dashboard = dashboard();
    for variable in list(&dashboard["templating"]["list"]) {
        let query = string(&variable["query"]);
        if let Some(inside) = query.strip_prefix("label_values(") {
            let (selector, label) = inside.trim_end_matches(')').rsplit_once(", ").unwrap();
            let found = mistakes(selector, &[label], &exported);
            assert!(found.is_empty(), "{query}: {found:?}");
        }
    }
}

#[test]
fn each_metric_of_this_proxy_is_in_the_dashboard() {
    let shown = text("dashboard.json");
    // Of maps their pressure and entries are shown, of endpoints their connections.
    let derived = [
        "proxy_agent_map_capacity",
        "proxy_agent_backend_packets_total",
    ];
    for name in exported().into_keys() {
        if name.starts_with("proxy_agent_") && !derived.contains(&name.as_str()) {
            assert!(shown.contains(&name), "{name}");
        }
    }
}

#[test]
fn the_dashboards_panels_have_a_place_each() {
    let dashboard = dashboard();
    assert!(string(&dashboard["uid"]).len() <= 40);
    let mut places: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for panel in list(&dashboard["panels"]) {
        let title = string(&panel["title"]);
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|it| panel["gridPos"][it].as_u64().unwrap());
        assert!(x + w <= 24, "{title}");
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            let other = places.insert(place, title);
            assert_eq!(other, None, "below {title}");
        }
    }
}

/// promtool knows rules only, so that each query is made one.
#[test]
fn the_dashboards_queries_are_well_formed() {
    let variables = [
        ("$__rate_interval", "5m"),
        ("$job", "j"),
        ("$instance", "i"),
    ];
    let queries = panels()
        .into_iter()
        .flat_map(|panel| list(&panel["targets"]).cloned().collect::<Vec<_>>());
    let rules = queries.enumerate().map(|(number, target)| {
        let query = string(&target["expr"]).to_owned();
        let query = variables
            .iter()
            .fold(query, |query, (name, value)| query.replace(name, value));
        json!({"record": format!("query:{number}"), "expr": query})
    });
    let groups = json!({"groups": [{"name": "dashboard", "rules": rules.collect::<Vec<_>>()}]});
    let file = tempfile::NamedTempFile::new().unwrap();
    // JSON is YAML.
    fs::write(file.path(), groups.to_string()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()]);
}

/// Debian's promtool is built without discovery of Pods, so that it cannot check this file.
#[test]
fn the_job_is_the_one_that_alerts_are_about() {
    let scrape = yaml("scrape.yaml");
    let jobs: Vec<_> = list(&scrape["scrape_configs"]).collect();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0]["job_name"], "proxy-agent");
    let rules = text("rules.yaml");
    let asked: BTreeSet<_> = between(&rules, "job=\"", "\"").into_iter().collect();
    assert_eq!(asked, BTreeSet::from(["proxy-agent"]));
}

#[test]
fn config_maps_are_made_of_the_files() {
    let kustomization = yaml("kustomization.yaml");
    let files = list(&kustomization["configMapGenerator"]).flat_map(|map| list(&map["files"]));
    for file in files {
        let file = string(file);
        let file = file.split_once('=').map_or(file, |(_, file)| file);
        assert!(folder().join(file).is_file(), "{file}");
    }
}
