//! Label and field selectors, as far as watchers of Services use them.

use serde_json::Value;

/// Which objects a request is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    /// Labels that must be absent (`!key`).
    absent: Vec<String>,
    /// Fields with the value that they must have, or not have.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`; an error names what is unknown.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let mut selector = Self::default();
        for term in labels.split(',').filter(|term| !term.is_empty()) {
            let key = term
                .strip_prefix('!')
                .ok_or_else(|| format!("label selector {term:?}"))?;
            selector.absent.push(key.to_owned());
        }
        for term in fields.split(',').filter(|term| !term.is_empty()) {
            let (path, value, is_equal) = match term.split_once("!=") {
                Some((path, value)) => (path, value, false),
                None => term
                    .split_once('=')
                    .map(|(path, value)| (path, value, true))
                    .ok_or_else(|| format!("field selector {term:?}"))?,
            };
            selector
                .fields
                .push((path.replace('.', "/"), value.to_owned(), is_equal));
        }
        Ok(selector)
    }

    pub(crate) fn takes(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.absent.iter().all(|key| labels.get(key).is_none())
            && self.fields.iter().all(|(path, value, is_equal)| {
                let field = object.pointer(&format!("/{path}")).and_then(Value::as_str);
                (field.unwrap_or_default() == value) == *is_equal
            })
    }
}
