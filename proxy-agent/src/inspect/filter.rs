//! Which rows are wanted.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::ServiceRef;
use crate::model::object::{Family, Protocol};

/// A Service, or one of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFilter {
    namespace: String,
    name: String,
    port: Option<String>,
}

impl FromStr for ServiceFilter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, rest) = text.split_once('/').ok_or(
            "a Service is NAMESPACE/NAME or NAMESPACE/NAME:PORT, such as default/web:http",
        )?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (rest, None),
        };
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            port,
        })
    }
}

impl ServiceFilter {
    fn has(&self, service: &ServiceRef) -> bool {
        service.namespace.as_ref() == Some(&self.namespace)
            && service.name.as_ref() == Some(&self.name)
            && (self.port.is_none() || service.port == self.port)
    }
}

/// What a row must have, as far as it is said.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The Service.
    pub service: Option<ServiceFilter>,
    /// One of the row's addresses.
    pub address: Option<IpAddr>,
    /// The port of this address, or of any.
    pub port: Option<u16>,
    /// The IP family.
    pub family: Option<Family>,
    /// The protocol.
    pub protocol: Option<Protocol>,
}

impl Filter {
    /// Whether rows of a Service port are wanted.
    pub fn has_service(&self, service: &ServiceRef) -> bool {
        self.service.as_ref().is_none_or(|it| it.has(service))
    }

    /// Whether rows of an IP family are wanted.
    pub fn has_family(&self, family: Family) -> bool {
        self.family.is_none_or(|it| it == family)
    }

    /// Whether rows of a protocol are wanted, of which the number in IP headers is given.
    pub fn has_protocol(&self, number: u8) -> bool {
        self.protocol.is_none_or(|it| it.number() == number)
    }

    /// Whether rows with these addresses and ports are wanted.
    pub fn has_any(&self, ends: impl IntoIterator<Item = SocketAddr>) -> bool {
        if self.address.is_none() && self.port.is_none() {
            return true;
        }
        ends.into_iter().any(|end| {
            self.address.is_none_or(|it| it == end.ip())
                && self.port.is_none_or(|it| it == end.port())
        })
    }

    /// Whether rows with this address and no port are wanted.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.address.is_none_or(|it| it == address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: &str) -> ServiceRef {
        ServiceRef {
            namespace: Some("default".to_owned()),
            name: Some("web".to_owned()),
            port: Some(port.to_owned()),
            id: 0,
        }
    }

    #[test]
    fn a_service_is_all_of_its_ports_unless_one_is_named() {
        let all: ServiceFilter = "default/web".parse().unwrap();
        let one: ServiceFilter = "default/web:http".parse().unwrap();
        assert!(all.has(&service("http")) && all.has(&service("")));
        assert!(one.has(&service("http")) && !one.has(&service("")));
        assert!("web".parse::<ServiceFilter>().is_err());
    }

    #[test]
    fn address_and_port_are_of_one_end() {
        let filter = Filter {
            address: Some([192, 0, 2, 1].into()),
            port: Some(80),
            ..Filter::default()
        };
        let end = |last, port| SocketAddr::from(([192, 0, 2, last], port));
        assert!(filter.has_any([end(2, 1), end(1, 80)]));
        assert!(!filter.has_any([end(2, 80), end(1, 81)]));
    }
}
