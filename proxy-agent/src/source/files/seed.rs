//! How a document becomes objects: an outline of the kinds in it, and a seed
//! that reads it again by that outline.

use std::fmt;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, Resource};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::document::{ApiObject, Document};

/// The parts of any value that identify the object.
#[derive(Debug)]
pub(super) enum Outline {
    /// A mapping.
    Object {
        api_version: Option<String>,
        kind: Option<String>,
        items: Vec<Outline>,
    },
    Sequence(Vec<Outline>),
    Text(String),
    Other,
}

impl Outline {
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn into_items(self) -> Vec<Self> {
        match self {
            Self::Sequence(items) => items,
            _ => Vec::new(),
        }
    }
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OutlineVisitor)
    }
}

/// Takes any value.
struct OutlineVisitor;

impl<'de> Visitor<'de> for OutlineVisitor {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let (mut api_version, mut kind, mut items) = (None, None, Vec::new());
        while let Some(key) = map.next_key::<Outline>()? {
            match key.into_text().as_deref() {
                Some("apiVersion") => api_version = map.next_value::<Outline>()?.into_text(),
                Some("kind") => kind = map.next_value::<Outline>()?.into_text(),
                Some("items") => items = map.next_value::<Outline>()?.into_items(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Outline::Object {
            api_version,
            kind,
            items,
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Outline, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Outline::Sequence(items))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Outline, E> {
        Ok(Outline::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_none<E: Error>(self) -> Result<Outline, E> {
        Ok(Outline::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outline, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Reads the object of an outline into a document.
pub(super) struct Seed<'a> {
    outline: &'a Outline,
    found: &'a mut Document,
}

impl<'a> Seed<'a> {
    pub(super) fn new(outline: &'a Outline, found: &'a mut Document) -> Self {
        Self { outline, found }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Outline::Object {
            api_version,
            kind,
            items,
        } = self.outline
        else {
            return Err(Error::custom("expected a Kubernetes object"));
        };
        let (Some(api_version), Some(kind)) = (api_version, kind) else {
            return Err(Error::custom("an object needs apiVersion and kind"));
        };
        let objects = &mut self.found.objects;
        match (api_version.as_str(), kind.as_str()) {
            (core::Service::API_VERSION, core::Service::KIND) => {
                objects.push(ApiObject::Service(named(deserializer)?));
            }
            (discovery::EndpointSlice::API_VERSION, discovery::EndpointSlice::KIND) => {
                objects.push(ApiObject::EndpointSlice(named(deserializer)?));
            }
            (core::Node::API_VERSION, core::Node::KIND) => {
                objects.push(ApiObject::Node(named(deserializer)?));
            }
            (core::Pod::API_VERSION, core::Pod::KIND) => {
                objects.push(ApiObject::Pod(named(deserializer)?));
            }
            (networking::ServiceCIDR::API_VERSION, networking::ServiceCIDR::KIND) => {
                objects.push(ApiObject::ServiceCidr(named(deserializer)?));
            }
            ("v1", "List") => deserializer.deserialize_map(ListVisitor(items, self.found))?,
            _ => {
                let other = (api_version.clone(), kind.clone());
                self.found.ignored.insert(other);
                IgnoredAny::deserialize(deserializer)?;
            }
        }
        Ok(())
    }
}

/// Reads an object that has a name.
fn named<'de, T, D>(deserializer: D) -> Result<Box<T>, D::Error>
where
    T: Deserialize<'de> + Metadata<Ty = ObjectMeta> + Resource,
    D: Deserializer<'de>,
{
    let object = T::deserialize(deserializer)?;
    match object.metadata().name.as_deref() {
        None | Some("") => Err(Error::custom(format!(
            "a {} needs a metadata.name",
            T::KIND
        ))),
        Some(_) => Ok(Box::new(object)),
    }
}

/// Reads `items` of a list.
struct ListVisitor<'a>(&'a [Outline], &'a mut Document);

impl<'de> Visitor<'de> for ListVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(outlines, found) = self;
        while let Some(key) = map.next_key::<String>()? {
            if key == "items" {
                map.next_value_seed(ItemsSeed(outlines, &mut *found))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Reads the items of a list, each by its outline.
struct ItemsSeed<'a>(&'a [Outline], &'a mut Document);

impl<'de> DeserializeSeed<'de> for ItemsSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Self(outlines, found) = self;
        for outline in outlines {
            sequence.next_element_seed(Seed::new(outline, &mut *found))?;
        }
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}
