//! What the data path has counted, by Service and by backend.

use std::net::SocketAddr;

use proxy_ebpf::layout::Traffic;

use crate::agent::Agent;
use crate::maps::KernelMaps;
use crate::status::PortTraffic;

/// Reads it from the maps; ports and endpoints without any are left out.
pub(super) fn read(agent: &mut Agent<KernelMaps>) -> Vec<PortTraffic> {
    let is_some = |traffic: &Traffic| *traffic != Traffic::default();
    let (planner, maps) = agent.plan_and_maps();
    let ports = planner.ports().filter_map(|(port, service, backends)| {
        let total = maps.service_traffic(service).ok().filter(is_some)?;
        let endpoints = backends.iter().filter_map(|(endpoint, index)| {
            let traffic = maps.backend_traffic(port.family, *index).ok();
            let address = SocketAddr::new(endpoint.address, endpoint.port);
            Some((address, traffic.filter(is_some)?))
        });
        Some(PortTraffic {
            port: port.clone(),
            total,
            endpoints: endpoints.collect(),
        })
    });
    ports.collect()
}
