//! The Helm chart makes what the kustomization makes.
//!
//! Few distributions have Helm. So the templates are held to the little that [`render`] knows, and
//! where Helm is installed it has to make the same of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall stop")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proxy_agent::config::kube_proxy::{Settings, parse};
use serde_json::{Value, json};

const NAMESPACE: &str = "kube-system";

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests")
}

fn chart() -> PathBuf {
    manifests().join("helm/proxy-agent")
}

fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|it| !it.is_null()).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

/// The YAML files of a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn values() -> Value {
    documents(&read(&chart().join("values.yaml"))).remove(0)
}

/// A template with its values in it. Known are lines of their own `{{- if .Values.a }}` and
/// `{{- end }}`, not nested; and in other lines `{{ .Values.a.b }}`, `{{ .Values.a | toJson }}` and
/// `{{ .Release.Namespace }}`.
fn render(template: &str, values: &Value) -> String {
    let mut text = String::new();
    let mut is_shown = true;
    for line in template.lines() {
        let action = line.trim().strip_prefix("{{- ");
        match action.map(|it| it.strip_suffix(" }}").unwrap()) {
            Some("end") => is_shown = true,
            Some(action) => {
                let path = action.strip_prefix("if .Values.").unwrap();
                assert!(is_shown, "nested: {line}");
                is_shown = value(values, path).as_bool().unwrap();
            }
            None if is_shown => {
                text.push_str(&render_line(line, values));
                text.push('\n');
            }
            None => {}
        }
    }
    assert!(is_shown, "an if without its end");
    text
}

fn render_line(line: &str, values: &Value) -> String {
    let mut parts = line.split("{{ ");
    let mut text = parts.next().unwrap().to_owned();
    assert!(!text.contains("}}") && !line.contains("{{-"), "{line}");
    for part in parts {
        let (action, rest) = part.split_once(" }}").unwrap();
        assert!(!rest.contains("}}"), "{line}");
        text.push_str(&evaluate(action, values));
        text.push_str(rest);
    }
    text
}

fn evaluate(action: &str, values: &Value) -> String {
    if action == ".Release.Namespace" {
        return NAMESPACE.to_owned();
    }
    let path = action.strip_prefix(".Values.").unwrap();
    match path.strip_suffix(" | toJson") {
        Some(path) => value(values, path).to_string(),
        None => value(values, path).as_str().unwrap().to_owned(),
    }
}

fn value<'a>(values: &'a Value, path: &str) -> &'a Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    let value = values.pointer(&pointer);
    value.unwrap_or_else(|| panic!("values.yaml has no {path}"))
}

/// Objects by kind, of which there is one each.
type Objects = BTreeMap<String, Value>;

fn by_kind(documents: Vec<Value>) -> Objects {
    let count = documents.len();
    let kind = |object: &Value| object["kind"].as_str().unwrap().to_owned();
    let objects: Objects = documents.into_iter().map(|it| (kind(&it), it)).collect();
    assert_eq!(objects.len(), count);
    objects
}

fn rendered(values: &Value) -> Objects {
    let templates = files(&chart().join("templates"));
    let text = templates.iter().map(|file| render(&read(file), values));
    by_kind(text.flat_map(|text| documents(&text)).collect())
}

fn base() -> Objects {
    let mut files = files(&manifests().join("base"));
    files.retain(|file| !file.ends_with("kustomization.yaml"));
    by_kind(
        files
            .iter()
            .flat_map(|file| documents(&read(file)))
            .collect(),
    )
}

/// Takes the configuration out of the ConfigMap, and says what it is.
fn take_settings(objects: &mut Objects) -> Settings {
    let data = objects.get_mut("ConfigMap").unwrap()["data"].as_object_mut();
    let text = data.unwrap().remove("config.conf").unwrap();
    let parsed = parse(text.as_str().unwrap(), Path::new("config.conf")).unwrap();
    assert_eq!(parsed.ignored, []);
    parsed.settings
}

#[test]
fn the_chart_makes_what_the_base_is() {
    let mut rendered = rendered(&values());
    let mut base = base();
    assert_eq!(take_settings(&mut rendered), take_settings(&mut base));
    assert_eq!(rendered, base);
}

#[test]
fn values_get_to_where_they_belong() {
    let mut values = values();
    values["image"] = json!({"repository": "registry.example/proxy-agent", "tag": "9"});
    values["apiServer"] = json!("https://192.0.2.1:6443");
    values["maxSurge"] = json!(1);
    values["resources"] = json!({"limits": {"cpu": "1"}});
    values["proxyAgentConfiguration"]["natPorts"] = json!("61000-65535");
    let mut objects = rendered(&values);
    let settings = take_settings(&mut objects);
    assert_eq!(settings.own.nat_ports.to_string(), "61000-65535");
    let server = &objects["ConfigMap"]["data"]["apiServer"];
    assert_eq!(server, "https://192.0.2.1:6443");
    let spec = &objects["DaemonSet"]["spec"];
    assert_eq!(spec["updateStrategy"]["rollingUpdate"]["maxSurge"], 1);
    let pod = &spec["template"]["spec"];
    for container in [&pod["initContainers"][0], &pod["containers"][0]] {
        assert_eq!(container["image"], "registry.example/proxy-agent:9");
    }
    let resources = &pod["containers"][0]["resources"];
    assert_eq!(resources["limits"]["cpu"], "1");
}

/// As manifests/pod-opt-out.
#[test]
fn pods_can_opt_out_by_a_value() {
    let mut values = values();
    values["podOptOut"] = json!(true);
    let with = rendered(&values);
    let mut expected = base();
    let rules = expected.get_mut("ClusterRole").unwrap()["rules"].as_array_mut();
    rules
        .unwrap()
        .push(json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}));
    let daemon_set = expected.get_mut("DaemonSet").unwrap();
    let args = &mut daemon_set["spec"]["template"]["spec"]["containers"][0]["args"];
    args.as_array_mut().unwrap().push(json!("--pod-opt-out"));
    for kind in ["ClusterRole", "DaemonSet"] {
        assert_eq!(with[kind], expected[kind]);
    }
}

/// As manifests/no-mount.
#[test]
fn the_privileged_container_can_be_left_out_by_a_value() {
    let mut values = values();
    values["mountBpffs"] = json!(false);
    let without = rendered(&values).remove("DaemonSet").unwrap();
    let mut expected = base().remove("DaemonSet").unwrap();
    let pod = expected["spec"]["template"]["spec"].as_object_mut();
    pod.unwrap().remove("initContainers").unwrap();
    assert_eq!(without, expected);
}

#[test]
fn the_charts_version_is_this_one() {
    let chart = documents(&read(&chart().join("Chart.yaml"))).remove(0);
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(values()["image"]["tag"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn helm_makes_the_same() {
    let chart = chart();
    let helm = |arguments: &[&str]| {
        let output = Command::new("helm").args(arguments).output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "helm {arguments:?}: {said}");
        Some(String::from_utf8(output.stdout).unwrap())
    };
    let chart = chart.to_str().unwrap();
    if helm(&["lint", "--strict", chart]).is_none() {
        println!("skipped: helm is not installed");
        return;
    }
    for (switch, is_on) in [
        ("podOptOut", false),
        ("podOptOut", true),
        ("mountBpffs", false),
    ] {
        let set = format!("{switch}={is_on}");
        let line = ["template", "-n", NAMESPACE, "--set", &set, "name", chart];
        let mut values = values();
        values[switch] = json!(is_on);
        assert_eq!(by_kind(documents(&helm(&line).unwrap())), rendered(&values));
    }
}
