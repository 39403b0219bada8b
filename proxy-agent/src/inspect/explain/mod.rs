//! What becomes of a packet: the pipeline's own code runs with it on a copy of the maps.
//!
//! Nothing here knows what the pipeline does. It is asked which frontend and which candidates a
//! connection finds, and what it has made of a packet is read off the packet, the flow and the
//! counters.

mod desired;
mod packet;
mod paths;
mod reasons;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use proxy_ebpf::host::Memory;
use proxy_ebpf::layout::{Port, V4, V6};
use proxy_ebpf::pipeline::{Client, IpVersion, Seen, look_up};
use serde::Serialize;

pub use self::desired::Comparison;
use self::paths::PATHS;
pub use self::paths::PathResult;
pub use self::reasons::meaning;
use super::backends::{self, BackendRow};
use super::flows::{self, FlowRow};
use super::services::FrontendRow;
use super::{API_VERSION, Filter, Names, ServiceRef, State};
use crate::maps::FlowRecord;
use crate::model::object::{Family, Protocol};
use crate::plan::FrontendId;

/// The copies of both IP versions' maps.
pub type Copies = (Memory<V4>, Memory<V6>);

/// Has packets get the address of the device by which they leave, of which `device` knows the index
/// by where they go.
pub fn know_routes((v4, v6): &mut Copies, device: impl Fn(IpAddr) -> Option<u32> + 'static) {
    let device = Rc::new(device);
    let of_v4 = Rc::clone(&device);
    v4.output_device = Rc::new(move |to| of_v4(to.into()));
    v6.output_device = Rc::new(move |to| device(to.into()));
}

/// The packet that is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Its source.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
    /// Its protocol.
    #[serde(serialize_with = "as_text")]
    pub protocol: Protocol,
}

impl Question {
    /// The first packet of the connection, in an Ethernet frame.
    pub fn first_packet(&self) -> Vec<u8> {
        packet::first(self.source, self.destination, self.protocol)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands out a reference"
)]
fn as_text<S: serde::Serializer>(protocol: &Protocol, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(protocol)
}

/// What becomes of a packet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// [`API_VERSION`]
    pub api_version: &'static str,
    /// `Explanation`
    pub kind: &'static str,
    /// The packet.
    pub packet: Question,
    /// The frontend that it is for, if it is for one.
    pub frontend: Option<FoundFrontend>,
    /// The endpoints of the frontend's Service port.
    pub endpoints: Vec<BackendRow>,
    /// What should be served, beside this; none where no agent tells.
    pub desired: Option<Comparison>,
    /// The flow that is there already, to which the packet belongs.
    pub flow: Option<FlowRow>,
    /// What becomes of it, by where it is met.
    pub paths: Vec<PathResult>,
}

/// A frontend that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FoundFrontend {
    /// The Service port.
    pub service: ServiceRef,
    /// The frontend.
    #[serde(flatten)]
    pub frontend: FrontendRow,
    /// How long a client is sent to the endpoint of its last connection; 0 for no affinity.
    pub affinity_seconds: u32,
}

/// An IP version whose addresses are the standard library's as well.
pub(super) trait Version: IpVersion + Into<IpAddr> {
    /// An address, if it is of this version.
    fn of(address: IpAddr) -> Option<Self>;
    /// The maps of this version.
    fn of_copies(copies: &Copies) -> &Memory<Self>;
}

impl Version for V4 {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn of_copies((v4, _): &Copies) -> &Memory<Self> {
        v4
    }
}

impl Version for V6 {
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address.into()),
            IpAddr::V4(_) => None,
        }
    }

    fn of_copies((_, v6): &Copies) -> &Memory<Self> {
        v6
    }
}

/// Explains what becomes of a packet. Each path changes what programs write in `copies`, which
/// `refresh` puts back before the next one.
///
/// # Errors
///
/// Those of `refresh`.
pub fn explain<E>(
    question: Question,
    state: &State,
    copies: &mut Copies,
    refresh: impl FnMut(&mut Copies) -> Result<(), E>,
) -> Result<Explanation, E> {
    match Family::of(question.destination.ip()) {
        Family::V4 => explain_in::<V4, E>(question, state, copies, refresh),
        Family::V6 => explain_in::<V6, E>(question, state, copies, refresh),
    }
}

fn explain_in<A: Version, E>(
    question: Question,
    state: &State,
    copies: &mut Copies,
    mut refresh: impl FnMut(&mut Copies) -> Result<(), E>,
) -> Result<Explanation, E> {
    let memory = A::of_copies(copies);
    // Only this host reaches NodePorts at loopback addresses, so it finds all that others do.
    let seen = find::<A>(&question, Client::Host, memory);
    let service = seen.map(|it| it.frontend.service);
    let endpoints = service.map(|id| backends::of_service_port(state, id));
    let endpoints = endpoints.unwrap_or_default();
    let flow = existing_flow::<A>(&question, memory, state);
    let mut results = Vec::new();
    for path in PATHS {
        if !results.is_empty() {
            refresh(copies)?;
        }
        let seen = find::<A>(&question, path.client, A::of_copies(copies));
        let mut result = path.run::<A>(&question, copies);
        result.candidates = seen.map_or_else(Vec::new, |it| candidates(&it, state, &endpoints));
        results.push(result);
    }
    Ok(Explanation {
        api_version: API_VERSION,
        kind: "Explanation",
        packet: question,
        frontend: seen.map(|seen| frontend(&seen, &question, state)),
        endpoints,
        desired: None,
        flow,
        paths: results,
    })
}

fn find<A: Version>(question: &Question, client: Client, memory: &Memory<A>) -> Option<Seen<A>> {
    let Question {
        destination,
        protocol,
        ..
    } = question;
    let address = A::of(destination.ip())?;
    let port = Port::new(destination.port());
    look_up(address, port, protocol.number(), client, memory)
}

fn frontend<A: Version>(seen: &Seen<A>, question: &Question, state: &State) -> FoundFrontend {
    let id = FrontendId {
        address: seen.key.address.into(),
        port: question.destination.port(),
        protocol: question.protocol,
    };
    FoundFrontend {
        service: Names::new(&state.content.service_names).of(seen.frontend.service),
        frontend: FrontendRow::new(&id, &seen.frontend),
        affinity_seconds: seen.frontend.affinity_seconds,
    }
}

/// The endpoints among which a new connection has its own.
fn candidates<A>(seen: &Seen<A>, state: &State, endpoints: &[BackendRow]) -> Vec<SocketAddr> {
    let slots = seen.candidates.ok();
    let slots = slots.and_then(|span| state.content.slots_of(span));
    let indices: BTreeSet<u32> = slots.unwrap_or_default().iter().copied().collect();
    let rows = endpoints.iter().filter(|row| indices.contains(&row.index));
    rows.map(|row| row.endpoint).collect()
}

/// The flow of the packet that is there already.
fn existing_flow<A: Version>(
    question: &Question,
    memory: &Memory<A>,
    state: &State,
) -> Option<FlowRow> {
    let record = paths::record_of(question, memory)?;
    let reader = flows::Reader {
        names: Names::new(&state.content.service_names),
        timeouts: memory.settings.timeouts,
        now: memory.shared.now.get(),
        all: true,
    };
    let reply = paths::reply_record_of(&record, memory).unwrap_or(record);
    let row = reader.row(&FlowRecord::of(&reply)?, &Filter::default());
    row.filter(|row| row.state != "over")
}
