//! Reads the objects in the text of one file, in YAML or JSON.
//!
//! A document is read twice: first only what kind of object it is, and then as
//! such an object. So a mistake is reported at its line and column, which a
//! detour over an untyped value would lose.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use serde::de::DeserializeSeed;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use super::seed::{Outline, Seed};

/// An object that the proxy has a use for.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiObject {
    /// `v1 Service`
    Service(Box<core::Service>),
    /// `discovery.k8s.io/v1 EndpointSlice`
    EndpointSlice(Box<discovery::EndpointSlice>),
    /// `v1 Node`
    Node(Box<core::Node>),
    /// `v1 Pod`
    Pod(Box<core::Pod>),
    /// `networking.k8s.io/v1 ServiceCIDR`
    ServiceCidr(Box<networking::ServiceCIDR>),
}

/// Why a text is not a list of objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct DocumentError {
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
    /// What is wrong there.
    pub reason: String,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML, of several documents.
    Yaml,
    /// JSON, one value.
    Json,
}

/// What a text holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The objects that the proxy has a use for, in their order.
    pub objects: Vec<ApiObject>,
    /// `apiVersion` and `kind` of the others.
    pub ignored: BTreeSet<(String, String)>,
}

/// Reads `text`.
pub fn parse(text: &str, format: Format) -> Result<Document, DocumentError> {
    let mut found = Document::default();
    match format {
        Format::Json => {
            let outline: Outline = serde_json::from_str(text).map_err(json_error)?;
            let mut deserializer = serde_json::Deserializer::from_str(text);
            Seed::new(&outline, &mut found)
                .deserialize(&mut deserializer)
                .map_err(json_error)?;
        }
        Format::Yaml => {
            for (lines_before, document) in yaml_documents(text) {
                let located = |error| yaml_error(&error, lines_before);
                let outline: Outline =
                    serde_saphyr::from_str_with_options(document, options(document))
                        .map_err(located)?;
                serde_saphyr::with_deserializer_from_str_with_options(
                    document,
                    options(document),
                    |deserializer| Seed::new(&outline, &mut found).deserialize(deserializer),
                )
                .map_err(located)?;
            }
        }
    }
    Ok(found)
}

/// Splits at the markers `---` and `...`, which at the start of a line are
/// markers even inside a block scalar. Each document comes with the number of
/// lines before it.
pub(crate) fn yaml_documents(text: &str) -> Vec<(u64, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut at) = (0, 0, 0);
    let mut has_content = false;
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let is_marker = |marker: &str| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        };
        if is_marker("---") || is_marker("...") {
            if has_content {
                documents.push((start_line, &text[start..at]));
            }
            (start, start_line) = (at, number);
            if is_marker("...") {
                (start, start_line) = (at + line.len(), number + 1);
            }
            has_content = has_yaml_content(line[3..].trim_start());
        } else {
            // A directive alone, before a marker, is no document.
            has_content |= !line.starts_with('%') && has_yaml_content(line.trim_start());
        }
        at += line.len();
    }
    if has_content {
        documents.push((start_line, &text[start..]));
    }
    documents
}

fn has_yaml_content(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// The library's budget bounds how much a small text can unfold to. It also
/// bounds plain size, where a file may have as many nodes as it has room for.
fn options(document: &str) -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    if let Some(budget) = &mut options.budget {
        budget.max_nodes = budget.max_nodes.max(document.len());
        budget.max_events = budget.max_events.max(2 * document.len());
    }
    options
}

fn yaml_error(error: &serde_saphyr::Error, lines_before: u64) -> DocumentError {
    let location = error.location();
    DocumentError {
        line: lines_before + location.map_or(1, |location| location.line()),
        column: location.map_or(1, |location| location.column()),
        reason: UserMessageFormatter
            .format_message(error.without_snippet())
            .into_owned(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn json_error(error: serde_json::Error) -> DocumentError {
    let (line, column) = (error.line(), error.column());
    let mut reason = error.to_string();
    if let Some(bare) = reason.strip_suffix(&format!(" at line {line} column {column}")) {
        reason.truncate(bare.len());
    }
    DocumentError {
        line: line as u64,
        column: column as u64,
        reason,
    }
}
