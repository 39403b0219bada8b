//! Requests that change objects.

use hyper::body::Bytes;
use serde_json::{Value, json};

use super::answer::Reply;
use super::event;
use super::failure::Failure;
use super::kind::Place;
use super::query::Seen;
use super::shared::{Shared, lock};

/// Creates an object that is not there.
pub(super) fn create(shared: &Shared, place: &Place, body: &Bytes) -> Result<Reply, Failure> {
    let mut object = parse(body)?;
    object["kind"] = json!(place.kind.name);
    object["apiVersion"] = json!(place.kind.version);
    let metadata = &mut object["metadata"];
    if let Some(namespace) = &place.namespace {
        if metadata["namespace"]
            .as_str()
            .is_some_and(|said| said != namespace)
        {
            let message = "the namespace of the object does not match that of the request";
            return Err(Failure::bad_request(message.to_owned()));
        }
        metadata["namespace"] = json!(namespace);
    }
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    if place.kind.name == "Event" {
        event::check(&object).map_err(|why| Failure::invalid_object(place, &name, &why))?;
    }
    let mut store = lock(&shared.store);
    if store.get(&place.key(&name)).is_some() {
        let message = format!("{} {name:?} already exists", place.kind.plural);
        return Err(Failure(409, "AlreadyExists", message));
    }
    let stored = store.apply(object);
    drop(store);
    shared.tell_of_change();
    Ok(Reply::Json(201, Value::clone(&stored)))
}

/// Changes an object by a merge patch (RFC 7386).
pub(super) fn patch(
    shared: &Shared,
    place: &Place,
    name: &str,
    seen: &Seen,
    body: &Bytes,
) -> Result<Reply, Failure> {
    if seen.content_type.as_deref() != Some("application/merge-patch+json") {
        let message = "the body of the request was in an unknown format".to_owned();
        return Err(Failure(415, "UnsupportedMediaType", message));
    }
    let change = parse(body)?;
    let mut store = lock(&shared.store);
    let found = store.get(&place.key(name));
    let before = found.ok_or_else(|| Failure::not_found(place, name))?;
    let mut after = Value::clone(&before);
    merge(&mut after, &change);
    if place.kind.name == "Event" {
        event::check_change(&before, &after)
            .map_err(|why| Failure::invalid_object(place, name, &why))?;
    }
    let stored = store.apply(after);
    drop(store);
    shared.tell_of_change();
    Ok(Reply::Json(200, Value::clone(&stored)))
}

fn parse(body: &Bytes) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| Failure::bad_request(error.to_string()))
}

fn merge(target: &mut Value, change: &Value) {
    let Some(fields) = change.as_object() else {
        *target = change.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            target.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut target[name], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_changes_what_it_names() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge(
            &mut object,
            &json!({"a": {"b": null, "e": {"f": 3}}, "d": [2]}),
        );
        assert_eq!(object, json!({"a": {"c": 2, "e": {"f": 3}}, "d": [2]}));
    }
}
