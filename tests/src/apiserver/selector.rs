//! Label and field selectors.

use serde_json::Value;

use super::kind::Kind;

/// Which objects a request is for.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    namespace: Option<String>,
    labels: Vec<LabelTerm>,
    fields: Vec<FieldTerm>,
}

#[derive(Clone, Debug)]
enum LabelTerm {
    Present(String),
    Absent(String),
    Is(String, String),
    IsNot(String, String),
}

#[derive(Clone, Debug)]
struct FieldTerm {
    pointer: String,
    value: String,
    is_equal: bool,
}

impl Selector {
    /// Reads the two selectors of a request; an error is the API's message.
    pub(super) fn parse(
        kind: &Kind,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Self, String> {
        let terms = |text: &str| -> Vec<String> {
            let terms = text.split(',').map(|term| term.trim().to_owned());
            terms.filter(|term| !term.is_empty()).collect()
        };
        Ok(Self {
            namespace: namespace.map(ToOwned::to_owned),
            labels: terms(labels)
                .iter()
                .map(|term| label_term(term))
                .collect::<Result<_, _>>()?,
            fields: terms(fields)
                .iter()
                .map(|term| field_term(kind, term))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Whether it takes an object.
    pub(super) fn takes(&self, object: &Value) -> bool {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let label = |key: &str| object["metadata"]["labels"].get(key);
        let is_in_namespace = self
            .namespace
            .as_deref()
            .is_none_or(|namespace| text("/metadata/namespace") == Some(namespace));
        is_in_namespace
            && self.labels.iter().all(|term| match term {
                LabelTerm::Present(key) => label(key).is_some(),
                LabelTerm::Absent(key) => label(key).is_none(),
                LabelTerm::Is(key, value) => label(key).is_some_and(|label| label == value),
                LabelTerm::IsNot(key, value) => label(key).is_none_or(|label| label != value),
            })
            && self.fields.iter().all(|term| {
                // A field that is absent counts as empty.
                (text(&term.pointer).unwrap_or_default() == term.value) == term.is_equal
            })
    }
}

fn label_term(term: &str) -> Result<LabelTerm, String> {
    let pair = |key: &str, value: &str| (key.trim().to_owned(), value.trim().to_owned());
    let (term, key) = if let Some(key) = term.strip_prefix('!') {
        (LabelTerm::Absent(key.trim().to_owned()), key)
    } else if let Some((key, value)) = term.split_once("!=") {
        let (name, value) = pair(key, value);
        (LabelTerm::IsNot(name, value), key)
    } else if let Some((key, value)) = term.split_once('=') {
        let (name, value) = pair(key, value.trim_start_matches('='));
        (LabelTerm::Is(name, value), key)
    } else {
        (LabelTerm::Present(term.to_owned()), term)
    };
    // Sets (`in`, `notin`) are none of what a proxy asks for.
    let is_key = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let key = key.trim();
    if key.is_empty() || !key.chars().all(is_key) {
        return Err(format!("unable to parse requirement: {key:?}"));
    }
    Ok(term)
}

fn field_term(kind: &Kind, term: &str) -> Result<FieldTerm, String> {
    let (path, value, is_equal) = match term.split_once("!=") {
        Some((path, value)) => (path, value, false),
        None => match term.split_once('=') {
            Some((path, value)) => (path, value.trim_start_matches('='), true),
            None => return Err(format!("invalid field selector: {term:?}")),
        },
    };
    if !kind.fields.contains(&path) {
        return Err(format!("field label not supported: {path}"));
    }
    Ok(FieldTerm {
        pointer: format!("/{}", path.replace('.', "/")),
        value: value.to_owned(),
        is_equal,
    })
}
