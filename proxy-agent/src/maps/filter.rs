//! `FILTER`: which packets a Service may concern.
//!
//! Bits are set before what they stand for is written. They are not cleared with that, for flows
//! go on without their frontend; [`Filter::reconcile`] clears what nothing needs any more.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aya::Ebpf;
use proxy_ebpf::layout::{FILTER_WORDS, FilterBits, Port, V4, V6, maps};

use super::MapError;
use super::flow_table::FlowTable;
use super::mapped::MappedArray;
use crate::plan::{Content, Element, Write};

/// How many stale bits are left alone, beside one for each that is needed: each costs at most
/// some lookups.
const SPARE: usize = 4096;

/// How many bits an audit has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterRepairs {
    /// Those without which packets did not find what the maps hold.
    pub set: usize,
    /// Those that nothing needs any more.
    pub cleared: usize,
}

/// The bits in the kernel.
pub(super) struct Filter {
    bits: MappedArray<u64>,
    /// The tables of flows, with handles of their own.
    flows: (FlowTable<V4>, FlowTable<V6>),
    /// Addresses and ports from which this node may send what looks like a reply of a Service.
    service_ports: ServicePorts,
    /// The bits that were needed when it was found that too many are set.
    needed_before: Option<Vec<u64>>,
}

impl Filter {
    /// The filter of a loaded object.
    pub(super) fn of(object: &Ebpf, bits: MappedArray<u64>) -> Result<Self, MapError> {
        Ok(Self {
            bits,
            flows: (
                FlowTable::of(object, maps::FLOWS_V4)?,
                FlowTable::of(object, maps::FLOWS_V6)?,
            ),
            service_ports: ServicePorts::default(),
            needed_before: None,
        })
    }

    /// Sets every bit that is needed for what the maps hold, flows included.
    pub(super) fn fill(&mut self, content: &Content) -> Result<(), MapError> {
        self.service_ports = ServicePorts::of(content);
        let mut needed = words(needed_by_content(content));
        add(&mut needed, &self.needed_by_flows()?);
        self.set_all(&needed).map(drop)
    }

    /// Sets every bit that is needed for what the agent has written. Where too many are set,
    /// clears those that were needed neither now nor at the call before: nothing that began
    /// in between can need one of them.
    pub(super) fn reconcile(&mut self, content: &Content) -> Result<FilterRepairs, MapError> {
        let mut needed = words(needed_by_content(content));
        let mut repairs = FilterRepairs {
            set: self.set_all(&needed)?,
            cleared: 0,
        };
        let are_set = count(&self.bits.copy(FILTER_WORDS)?);
        if are_set <= 2 * count(&needed) + SPARE {
            self.needed_before = None;
            return Ok(repairs);
        }
        let Some(before) = self.needed_before.replace(needed.clone()) else {
            return Ok(repairs);
        };
        add(&mut needed, &before);
        add(&mut needed, &self.needed_by_flows()?);
        for (index, needed) in (0..).zip(&needed) {
            let there = self.bits.get(index)?;
            if there & !needed != 0 {
                let cleared = self.bits.clear_bits(index, there & !needed)?;
                repairs.cleared += cleared.count_ones() as usize;
            }
        }
        // A program may have made a flow meanwhile for which it has set bits.
        let flows = self.needed_by_flows()?;
        self.set_all(&flows)?;
        Ok(repairs)
    }

    fn needed_by_flows(&self) -> Result<Vec<u64>, MapError> {
        let mut needed = words([]);
        self.flows
            .0
            .for_each(|record| set_in(&mut needed, record.key.filter()))?;
        self.flows
            .1
            .for_each(|record| set_in(&mut needed, record.key.filter()))?;
        Ok(needed)
    }

    fn set_all(&mut self, needed: &[u64]) -> Result<usize, MapError> {
        let mut missing = 0;
        for (index, needed) in (0..).zip(needed).filter(|(_, needed)| **needed != 0) {
            missing += self.bits.set_bits(index, *needed)?.count_ones() as usize;
        }
        Ok(missing)
    }

    /// Sets the bits without which no packet would find what a write is about.
    pub(super) fn set_for(&mut self, write: &Write) -> Result<(), MapError> {
        let bits = self.service_ports.bits_for(write);
        bits.into_iter().try_for_each(|bits| self.set(bits))
    }

    /// Sets the bits without which no packet to an address would be looked at.
    pub(super) fn set_destination(&mut self, address: IpAddr) -> Result<(), MapError> {
        self.set(match address {
            IpAddr::V4(address) => FilterBits::of_destination(&V4::from(address)),
            IpAddr::V6(address) => FilterBits::of_destination(&V6::from(address)),
        })
    }

    fn set(&mut self, bits: FilterBits) -> Result<(), MapError> {
        if !bits.are_in(self.bits.get(bits.word)?) {
            self.bits.set_bits(bits.word, bits.mask)?;
        }
        Ok(())
    }
}

/// The ports at which Services are reached by addresses of this node. A connection of the node's
/// own may have one of them as its source port, and its answers look like a client's packets.
#[derive(Debug, Default)]
pub(super) struct ServicePorts {
    addresses: BTreeSet<IpAddr>,
    /// NodePorts, each under the zero address. (A load balancer's address that becomes the
    /// node's later is found by the next audit.)
    ports: BTreeSet<(IpAddr, u16)>,
}

impl ServicePorts {
    fn of(content: &Content) -> Self {
        let frontends = content.frontends.iter().map(|(id, _)| id);
        Self {
            addresses: content.node_addresses.clone(),
            ports: frontends
                .filter(|id| id.address.is_unspecified())
                .map(|id| (id.address, id.port))
                .collect(),
        }
    }

    /// Takes a write in; the bits without which no packet would find what it is about.
    pub(super) fn bits_for(&mut self, write: &Write) -> Vec<FilterBits> {
        let mut bits = self.note(write);
        bits.extend(needed_by(write));
        bits
    }

    /// Takes a write in; the bits of packets from a port that is one of Services' since.
    fn note(&mut self, write: &Write) -> Vec<FilterBits> {
        match write {
            Write::Frontend { id, .. } if id.address.is_unspecified() => {
                self.ports.insert((id.address, id.port));
                let addresses = self.addresses.iter();
                addresses
                    .filter(|it| it.is_ipv4() == id.address.is_ipv4())
                    .map(|address| source(*address, id.port))
                    .collect()
            }
            Write::Frontend { id, .. } if self.addresses.contains(&id.address) => {
                vec![source(id.address, id.port)]
            }
            // Another protocol may have the port: too many bits cost some lookups.
            Write::RemoveFrontend { id } => {
                self.ports.remove(&(id.address, id.port));
                Vec::new()
            }
            Write::NodeAddress { address } => {
                self.addresses.insert(*address);
                let ports = self.ports.iter();
                ports
                    .filter(|(zero, _)| zero.is_ipv4() == address.is_ipv4())
                    .map(|(_, port)| source(*address, *port))
                    .collect()
            }
            Write::RemoveNodeAddress { address } => {
                self.addresses.remove(address);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// The bits of packets that go out from an address and port of this node at which a Service is
/// reached.
fn needed_by_node_ports(content: &Content) -> impl Iterator<Item = FilterBits> {
    content.frontends.iter().flat_map(|(id, _)| {
        let addresses = content.node_addresses.iter().filter(|address| {
            let is_node_port =
                id.address.is_unspecified() && id.address.is_ipv4() == address.is_ipv4();
            is_node_port || id.address == **address
        });
        addresses.map(|address| source(*address, id.port))
    })
}

/// The bits without which no packet would find what a write is about.
fn needed_by(write: &Write) -> Option<FilterBits> {
    match write {
        Write::Backend { entry, .. } => Some(source(entry.address, entry.port)),
        // A NodePort is found by the node's addresses.
        Write::Frontend { id, .. } => {
            (!id.address.is_unspecified()).then(|| destination(id.address))
        }
        Write::ClusterIp { address }
        | Write::NodeAddress { address }
        | Write::DeviceAddress { address, .. } => Some(destination(*address)),
        Write::SettingsV4(settings) => Some(FilterBits::of_destination(&settings.node_address)),
        Write::SettingsV6(settings) => Some(FilterBits::of_destination(&settings.node_address)),
        Write::Service { .. }
        | Write::ServiceName { .. }
        | Write::RemoveServiceName { .. }
        | Write::Slots { .. }
        | Write::RemoveFrontend { .. }
        | Write::EndBackend { .. }
        | Write::SourceRange { .. }
        | Write::RemoveSourceRange { .. }
        | Write::RemoveClusterIp { .. }
        | Write::RemoveNodeAddress { .. }
        | Write::RemoveDeviceAddress { .. }
        | Write::NatPorts { .. } => None,
    }
}

/// The bits that are needed for what the maps hold.
fn needed_by_content(content: &Content) -> impl Iterator<Item = FilterBits> {
    let frontends = content.frontends.iter().map(|(id, _)| id.address);
    let addresses = frontends
        .filter(|address| !address.is_unspecified())
        .chain(content.cluster_ips.iter().copied())
        .chain(content.node_addresses.iter().copied())
        .chain(content.device_addresses.values().copied());
    let backends = content
        .backends
        .iter()
        .map(|(_, _, element)| match element {
            Element::Living(entry) => source(entry.address, entry.port),
            Element::Ended { endpoint, .. } => source(endpoint.ip(), endpoint.port()),
        });
    let own = needed_by_node_ports(content);
    addresses
        .map(destination)
        .chain(backends)
        .chain(own)
        .chain([
            FilterBits::of_destination(&content.settings.0.node_address),
            FilterBits::of_destination(&content.settings.1.node_address),
        ])
}

fn destination(address: IpAddr) -> FilterBits {
    match address {
        IpAddr::V4(address) => FilterBits::of_destination(&V4::from(address)),
        IpAddr::V6(address) => FilterBits::of_destination(&V6::from(address)),
    }
}

fn source(address: IpAddr, port: u16) -> FilterBits {
    let port = Port::new(port);
    match address {
        IpAddr::V4(address) => FilterBits::of_source(&V4::from(address), port),
        IpAddr::V6(address) => FilterBits::of_source(&V6::from(address), port),
    }
}

fn words(bits: impl IntoIterator<Item = FilterBits>) -> Vec<u64> {
    let mut words = vec![0; FILTER_WORDS as usize];
    for bit in bits {
        set_in(&mut words, bit);
    }
    words
}

fn count(words: &[u64]) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

fn add(words: &mut [u64], more: &[u64]) {
    for (word, more) in words.iter_mut().zip(more) {
        *word |= more;
    }
}

fn set_in(words: &mut [u64], bits: FilterBits) {
    if let Some(word) = words.get_mut(bits.word as usize) {
        *word |= bits.mask;
    }
}
