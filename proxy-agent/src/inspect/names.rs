//! The names of Service ports, by their ids.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// A Service port, as far as its name is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ServiceRef {
    /// The Service's namespace; none where the maps have no name for the id.
    pub namespace: Option<String>,
    /// The Service's name.
    pub name: Option<String>,
    /// The port's name; empty where it has none.
    pub port: Option<String>,
    /// The Service port's id in the maps.
    pub id: u32,
}

impl ServiceRef {
    /// The Service port of an id, by the text that the maps have for it.
    pub fn new(id: u32, text: Option<&str>) -> Self {
        text.map_or_else(|| Self::unknown(id), |text| Self::named(id, text))
    }

    fn unknown(id: u32) -> Self {
        Self {
            namespace: None,
            name: None,
            port: None,
            id,
        }
    }

    fn named(id: u32, text: &str) -> Self {
        let Some((namespace, rest)) = text.split_once('/') else {
            return Self::unknown(id);
        };
        let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
        Self {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            port: Some(port.to_owned()),
            id,
        }
    }
}

/// As `namespace/name:port`; by the id where there is no name.
impl fmt::Display for ServiceRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(namespace), Some(name)) = (&self.namespace, &self.name) else {
            return write!(out, "#{}", self.id);
        };
        write!(out, "{namespace}/{name}")?;
        match self.port.as_deref() {
            None | Some("") => Ok(()),
            Some(port) => write!(out, ":{port}"),
        }
    }
}

/// The names in the maps.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a>(&'a BTreeMap<u32, Arc<str>>);

impl<'a> Names<'a> {
    /// Those of [`Content`](crate::plan::Content).
    pub fn new(names: &'a BTreeMap<u32, Arc<str>>) -> Self {
        Self(names)
    }

    /// The Service port of an id.
    pub fn of(&self, id: u32) -> ServiceRef {
        ServiceRef::new(id, self.0.get(&id).map(|text| &**text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_it_was_written_and_an_id_where_there_is_none() {
        let names = [(1, Arc::from("default/web:http")), (2, Arc::from("a/b"))];
        let names = BTreeMap::from(names);
        let names = Names::new(&names);
        assert_eq!(names.of(1).to_string(), "default/web:http");
        assert_eq!(names.of(2).to_string(), "a/b");
        assert_eq!(names.of(2).port.as_deref(), Some(""));
        assert_eq!(names.of(3).to_string(), "#3");
    }
}
