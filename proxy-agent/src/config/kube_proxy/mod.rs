//! kube-proxy's configuration file, which works here unchanged.
//!
//! The file is a `KubeProxyConfiguration`. Behind it, as a document of its own, may
//! stand a `ProxyAgentConfiguration` with what kube-proxy has no setting for;
//! kube-proxy reads the first document of a file only, so that both can share one
//! (docs/adr/0004). Each may also be in a file of its own.
//!
//! ```text
//!  text ─► tree ─► check ─────────► settings   diff: what changes at run time
//!        (places)  (kinds of fields)  (table)   configz: what is in force
//! ```
//!
//! What kube-proxy accepts is accepted, but for fields that it does not know either:
//! those it passes over with a warning, and here they are errors, since the setting
//! that was meant is not in force. A field that kube-proxy knows and that has no
//! effect here is in [`Parsed::ignored`].

mod address;
mod check;
mod configz;
mod diff;
mod duration;
mod error;
mod field;
mod fields;
mod form;
mod overrides;
mod own;
#[cfg(test)]
mod readme;
mod row;
mod settings;
mod table;
mod tree;

use std::path::{Path, PathBuf};

use crate::source::files::document::yaml_documents;

pub use configz::configz;
pub use diff::{Changes, diff, in_force};
pub use error::ConfigError;
pub use overrides::{Override, with_overrides};
pub use own::{MapSizes, ProxyAgentSettings};
pub use row::OptionName;
pub use settings::{LogLevel, LogSettings, Settings};
pub use table::{Setting, settings};

use check::Values;
use error::{FieldError, Place};
use field::{Effect, Found};
use fields::{KUBE_PROXY_FIELDS, OWN_FIELDS};
use tree::{Node, Value};

/// The document that kube-proxy reads.
const KUBE_PROXY: (&str, &str) = ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration");

/// The document of this proxy's own settings.
const OWN: (&str, &str) = ("proxy-agent/v1alpha1", "ProxyAgentConfiguration");

/// What is in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The settings.
    pub settings: Settings,
    /// What has no effect here though the file asks for it.
    pub ignored: Vec<IgnoredField>,
    /// Where they are from.
    pub documents: Vec<DocumentOrigin>,
}

/// A field that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredField {
    /// Its path, such as `ipvs.scheduler`.
    pub path: &'static str,
    /// Its line in the file.
    pub line: u64,
    /// Why it has none.
    pub reason: String,
}

/// A document in a file, and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentOrigin {
    /// Its kind.
    pub kind: &'static str,
    /// The file.
    pub file: PathBuf,
    /// Whether no file before has a document of this kind.
    pub is_used: bool,
}

/// Reads `text`, which is the content of `file`, in YAML or JSON.
pub fn parse(text: &str, file: &Path) -> Result<Parsed, ConfigError> {
    parse_files(&[(text, file)])
}

/// Reads several files, each with its content. Of each kind the first document counts.
pub fn parse_files(files: &[(&str, &Path)]) -> Result<Parsed, ConfigError> {
    let (mut kube_proxy, mut own) = (None, None);
    let mut documents = Vec::new();
    for &(text, file) in files {
        let [first, second] = read_documents(text).map_err(|mistake| mistake.in_file(file))?;
        for (values, taken, (_, kind)) in [
            (first, &mut kube_proxy, KUBE_PROXY),
            (second, &mut own, OWN),
        ] {
            let Some(values) = values else { continue };
            documents.push(DocumentOrigin {
                kind,
                file: file.to_owned(),
                is_used: taken.is_none(),
            });
            taken.get_or_insert((values, file));
        }
    }
    let Some((kube_proxy, file)) = kube_proxy else {
        let (version, kind) = KUBE_PROXY;
        let reason = format!("there is no document of kind {kind} ({version})");
        let start = Place { line: 1, column: 1 };
        let file = files.first().map_or(Path::new(""), |(_, file)| file);
        return Err(FieldError::new(start, "", reason).in_file(file));
    };
    let mut settings = Settings::default();
    let taken = settings.take(&kube_proxy);
    taken.map_err(|mistake| mistake.in_file(file))?;
    if let Some((own, file)) = own {
        let taken = table::take(&mut settings, OWN, &own);
        taken.map_err(|mistake| mistake.in_file(file))?;
    }
    let mode = kube_proxy.text("mode").unwrap_or_default();
    let mut ignored: Vec<_> = kube_proxy
        .iter()
        .filter_map(|found| ignored(found, mode))
        .collect();
    ignored.sort_by_key(|field| field.line);
    Ok(Parsed {
        settings,
        ignored,
        documents,
    })
}

/// The document of kube-proxy and that of this proxy's own settings, as far as they are there.
fn read_documents(text: &str) -> Result<[Option<Values>; 2], FieldError> {
    // Some editors put one at the start.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut kube_proxy, mut own) = (None, None);
    for (lines_before, document) in yaml_documents(text) {
        let document = tree::read(document, lines_before)?;
        let (taken, fields) = match kind(&document)? {
            kind if kind == KUBE_PROXY => (&mut kube_proxy, &*KUBE_PROXY_FIELDS),
            _ => (&mut own, &*OWN_FIELDS),
        };
        let values = Values::of(&document, fields)?;
        if taken.replace(values).is_some() {
            let reason = "there is a document of this kind before";
            return Err(FieldError::new(document.place, "kind", reason));
        }
    }
    Ok([kube_proxy, own])
}

/// `apiVersion` and `kind`, if they are of a document that may be here.
fn kind(document: &Node) -> Result<(&'static str, &'static str), FieldError> {
    let Value::Map(entries) = &document.value else {
        let reason = format!("a group of fields is wanted, not {}", document.value.kind());
        return Err(FieldError::new(document.place, "", reason));
    };
    let find = |name: &str| {
        entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
            .ok_or_else(|| FieldError::new(document.place, name, "is missing"))
    };
    let wrong = |path: &str, node: &Node, wanted: &str| {
        let reason = format!("{wanted} is wanted, not {}", node.value.kind());
        FieldError::new(node.place, path, reason)
    };
    let is = |node: &Node, wanted: &str| matches!(&node.value, Value::Text(text) if text == wanted);
    let kind = find("kind")?;
    let known = [KUBE_PROXY, OWN]
        .into_iter()
        .find(|(_, known)| is(kind, known))
        .ok_or_else(|| wrong("kind", kind, &format!("`{}` or `{}`", KUBE_PROXY.1, OWN.1)))?;
    let version = find("apiVersion")?;
    if !is(version, known.0) {
        return Err(wrong("apiVersion", version, &format!("`{}`", known.0)));
    }
    Ok(known)
}

/// What to say of a field that has no effect, if there is need to.
fn ignored(found: &Found, mode: &str) -> Option<IgnoredField> {
    let (defaults, reason) = match found.field.effect {
        Effect::Used => return None,
        Effect::OfModes(modes, _) if modes.contains(&mode) => return None,
        Effect::OfModes(modes, defaults) => {
            let mode = if mode.is_empty() { "iptables" } else { mode };
            let of = modes.iter().find(|mode| !mode.is_empty());
            let of = of.copied().unwrap_or_default();
            (
                defaults,
                format!("it is of mode {of}, and the mode is {mode}"),
            )
        }
        Effect::Nothing(defaults, reason) => (defaults, reason.to_owned()),
    };
    if defaults.iter().any(|default| found.value.is(default)) {
        return None;
    }
    Some(IgnoredField {
        path: found.field.path,
        line: found.place.line,
        reason,
    })
}
