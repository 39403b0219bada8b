//! What the API server asks of Events (`pkg/apis/core/validation/events.go`).

use serde_json::Value;

const TEXTS: [(&str, usize); 5] = [
    ("reportingController", 128),
    ("reportingInstance", 128),
    ("reason", 128),
    ("action", 128),
    ("note", 1024),
];

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a new Event is valid; else why not.
pub(super) fn check(event: &Value) -> Result<(), String> {
    if event["apiVersion"] != "events.k8s.io/v1" {
        return Ok(());
    }
    let time = text(event, "/eventTime");
    let fraction = time.strip_suffix('Z').and_then(|time| time.split_once('.'));
    if fraction.is_none_or(|(_, fraction)| fraction.len() != 6) {
        return Err(format!("eventTime: {time:?} is no time in microseconds"));
    }
    for (field, most) in TEXTS {
        let value = event[field].as_str().unwrap_or_default();
        if value.len() > most || (value.is_empty() && field != "note") {
            return Err(format!("{field}: {value:?} is empty or too long"));
        }
    }
    if !matches!(text(event, "/type"), "Normal" | "Warning") {
        return Err(format!("type: {}", event["type"]));
    }
    let about = text(event, "/regarding/namespace");
    let namespace = text(event, "/metadata/namespace");
    let is_at_home = match about {
        "" => matches!(namespace, "default" | "kube-system"),
        about => about == namespace,
    };
    if !is_at_home {
        return Err(format!(
            "involvedObject.namespace: {about:?} in {namespace:?}"
        ));
    }
    let name = text(event, "/metadata/name");
    let is_good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(is_good) {
        return Err(format!("metadata.name: {name:?}"));
    }
    if let Some(old) = event
        .as_object()
        .and_then(|fields| fields.keys().find(|field| field.starts_with("deprecated")))
    {
        return Err(format!("{old}: needs to be unset"));
    }
    check_series(event)
}

/// Whether an Event may be changed so.
pub(super) fn check_change(before: &Value, after: &Value) -> Result<(), String> {
    let without_series = |event: &Value| {
        let mut event = event.clone();
        event.as_object_mut().map(|fields| fields.remove("series"));
        event
    };
    if without_series(before) != without_series(after) {
        return Err("only the series of an Event may change".to_owned());
    }
    check_series(after)
}

fn check_series(event: &Value) -> Result<(), String> {
    let series = &event["series"];
    if series.is_null() {
        return Ok(());
    }
    if series["count"].as_u64().is_none_or(|count| count < 2) {
        return Err("series.count: should be at least 2".to_owned());
    }
    if series["lastObservedTime"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        return Err("series.lastObservedTime: needs to be set".to_owned());
    }
    Ok(())
}
