//! What Service ports are called in the maps.

use std::sync::Arc;

use proxy_ebpf::layout::ServiceName;

use crate::model::desired::PortName;

/// The name of a Service port, without its protocol and IP family: "namespace/name:port".
pub fn text(name: &PortName) -> Arc<str> {
    let PortName { service, port, .. } = name;
    let text = if port.is_empty() {
        service.to_string()
    } else {
        format!("{service}:{port}")
    };
    ServiceName::fitting(&text).into()
}
