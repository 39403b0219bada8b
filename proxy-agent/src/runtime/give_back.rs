//! The way out: flows of the programs become connections of netfilter, the very way in which the
//! programs have translated them. The reverse of the [takeover](super::handover).
//!
//! First netfilter gets entries for the flows that it has never seen, those that leave the node at once: so
//! it gives none of their source ports to others. Then no flow begins any more. Then, one after the
//! other, it gets an entry for each that is left, and from that moment the programs let the packets of
//! them all pass. What netfilter knows of the translated packets, a
//! connection between client and endpoint, has to go first, for its replies have the same tuple; so
//! that no packet makes it again in between, the programs send both directions past the stack until then.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use proxy_ebpf::layout::protocol;
use tracing::{info, warn};

use crate::attach::device::local_addresses;
use crate::attach::{DeviceWatch, DeviceWatchError};
use crate::host::{Connection, Conntrack, Entry, EntryWriter, has_nat};
use crate::maps::{
    FlowRecord, GivenFlow, MapError, NotGiven, OpenNetfilterFlows, PinnedMaps, PinnedMapsError,
    now, synchronize_rcu,
};
use crate::model::object::Family;
use crate::plan::{Content, Element};

/// Why flows cannot be given to netfilter.
#[derive(Debug, thiserror::Error)]
pub enum GiveBackError {
    /// Their records cannot be read.
    #[error(transparent)]
    Pins(#[from] PinnedMapsError),
    /// Maps cannot be read or written.
    #[error(transparent)]
    Maps(#[from] MapError),
    /// The devices are not known.
    #[error(transparent)]
    Devices(#[from] DeviceWatchError),
    /// Netfilter has no connection tracking, or none that can be asked.
    #[error("cannot ask netfilter for its connections")]
    Conntrack(#[source] io::Error),
}

/// What came of it, in flows.
#[derive(Debug, Default)]
struct Outcome {
    given: usize,
    /// Those that netfilter has begun to translate by itself.
    known: usize,
    /// Those that netfilter did not take.
    failed: usize,
    /// Those that it cannot have.
    not_given: BTreeMap<NotGiven, usize>,
}

/// Gives the flows of the programs whose maps are pinned in `bpffs` to netfilter, and has the programs
/// begin no others. No agent may run.
///
/// # Errors
///
/// Some flows, or all, are the programs' still, and end with these.
pub async fn give_back(bpffs: &Path) -> Result<(), GiveBackError> {
    let mut maps = PinnedMaps::open(bpffs)?;
    if !has_nat() {
        warn!(
            "no chain of type nat is on this node: netfilter does not translate what it is given, until \
             another proxy has written its rules"
        );
    }
    let content = maps.content()?;
    let mut writer = EntryWriter::open().map_err(GiveBackError::Conntrack)?;
    let (begun, _) = read(&mut maps, &content)?;
    for flow in begun.iter().filter(|flow| flow.leaves_at_once()) {
        // What fails is tried again below, and then counted.
        let _ = writer.replace(&flow.entry(None));
    }
    maps.withdraw_frontends()?;
    // A program that has found a frontend still makes its flow.
    synchronize_rcu();
    let (flows, not_given) = read(&mut maps, &content)?;
    let mut outcome = Outcome {
        not_given,
        ..Outcome::default()
    };
    give(&maps, &flows, &mut writer, &mut outcome).await?;
    log(&outcome);
    Ok(())
}

/// The flows that netfilter can go on with, and how many there are of others.
fn read(
    maps: &mut PinnedMaps,
    content: &Content,
) -> Result<(Vec<GivenFlow>, BTreeMap<NotGiven, usize>), GiveBackError> {
    let timeouts = maps.timeouts()?;
    let now = now().map_err(GiveBackError::Conntrack)?;
    let mut flows = Vec::new();
    let mut not_given = BTreeMap::new();
    for family in Family::ALL {
        let backends = Backends::of(content, family);
        maps.for_each_flow(family, |record| {
            match GivenFlow::of(&record, &timeouts, now) {
                Some(Ok(flow)) if backends.keep(&record) => flows.push(flow),
                Some(Err(reason)) => *not_given.entry(reason).or_default() += 1,
                _ => {}
            }
        })?;
    }
    Ok((flows, not_given))
}

/// The generations of the backends of an IP version that there are, by index.
struct Backends(HashMap<u32, u32>);

impl Backends {
    fn of(content: &Content, family: Family) -> Self {
        let of_family = content.backends.iter().filter(|(it, ..)| *it == family);
        let living = of_family.filter_map(|(_, index, element)| match element {
            Element::Living(entry) => Some((*index, entry.generation)),
            Element::Ended { .. } => None,
        });
        Self(living.collect())
    }

    /// Whether a flow stays with its endpoint: datagrams to one that is gone find another.
    fn keep(&self, record: &FlowRecord) -> bool {
        record.protocol != protocol::UDP || self.0.get(&record.backend) == Some(&record.generation)
    }
}

/// What netfilter tracks, by protocol, client and destination.
struct Tracked(HashMap<(u8, SocketAddr, SocketAddr), Connection>);

impl Tracked {
    async fn read() -> io::Result<Self> {
        let all = Conntrack::open()?.all().await?;
        let by_ends = all
            .into_iter()
            .map(|it| ((it.protocol, it.client, it.frontend), it));
        Ok(Self(by_ends.collect()))
    }

    /// What it knows of the translated packets of a flow.
    fn behind(&self, flow: &GivenFlow) -> Option<&Connection> {
        let Connection {
            protocol,
            endpoint,
            source,
            ..
        } = flow.connection;
        let found = self.0.get(&(protocol, source, endpoint));
        // One that it translates itself is another connection.
        found.filter(|found| flow.is_tracked() && found.endpoint == endpoint)
    }

    /// How it translates the packets of a flow's client, if it does.
    fn translation(&self, flow: &GivenFlow) -> Option<&Connection> {
        let Connection {
            protocol,
            client,
            frontend,
            ..
        } = flow.connection;
        let found = self.0.get(&(protocol, client, frontend));
        found.filter(|found| found.endpoint != frontend)
    }

    /// What is to be done for a flow.
    fn step(&self, flow: &GivenFlow) -> Step {
        match self.translation(flow) {
            None => Step::Write(flow.entry(self.behind(flow))),
            Some(found) if found.has_ends_of(&flow.connection) => Step::Written,
            Some(_) => Step::None,
        }
    }
}

/// What is to be done so that netfilter has an entry for a flow.
#[derive(Clone, Copy)]
enum Step {
    /// It is to be written.
    Write(Entry),
    /// It was written before.
    Written,
    /// Nothing: netfilter has begun to translate its packets by itself.
    None,
}

async fn give(
    maps: &PinnedMaps,
    flows: &[GivenFlow],
    writer: &mut EntryWriter,
    outcome: &mut Outcome,
) -> Result<(), GiveBackError> {
    if flows.is_empty() {
        return Ok(());
    }
    let tracked = Tracked::read().await.map_err(GiveBackError::Conntrack)?;
    let devices = DeviceWatch::open()?.list().await?;
    let own: BTreeSet<IpAddr> = local_addresses(&devices).into_values().flatten().collect();
    let open = maps.netfilter_flows()?.open();
    let open = open.map_err(GiveBackError::Conntrack)?;
    let steps = flows.iter().map(|flow| (flow, tracked.step(flow)));
    let steps: Vec<(&GivenFlow, Step)> = steps.collect();
    bypass_stack(maps, &open, &steps, &own)?;
    for (flow, step) in steps {
        let written = match step {
            Step::Write(entry) => writer.replace(&entry),
            Step::Written | Step::None => Ok(()),
        };
        match (written, step) {
            (Ok(()), Step::None) => outcome.known += 1,
            (Ok(()), _) => outcome.given += 1,
            (Err(error), _) => {
                if outcome.failed == 0 {
                    warn!(connection = ?flow.connection, "netfilter does not take a flow: {error}");
                }
                outcome.failed += 1;
                continue;
            }
        }
        open.give(flow);
    }
    Ok(())
}

/// Has the programs send packets past the stack, of flows for which that makes no difference: what
/// has an endpoint on the node itself, or another source behind these programs, needs it.
fn bypass_stack(
    maps: &PinnedMaps,
    open: &OpenNetfilterFlows,
    steps: &[(&GivenFlow, Step)],
    own: &BTreeSet<IpAddr>,
) -> Result<(), MapError> {
    let mut clients = BTreeSet::new();
    for (flow, step) in steps {
        let Step::Write(entry) = step else {
            continue;
        };
        let keeps_source = entry.connection.source == flow.connection.source;
        if flow.is_tracked()
            && keeps_source
            && !own.contains(&flow.connection.endpoint.ip())
            && open.bypass_stack(flow)
        {
            clients.insert(flow.connection.client.ip());
        }
    }
    maps.expect_replies_to(clients)?;
    // A packet that a program has let pass is through netfilter after that.
    synchronize_rcu();
    Ok(())
}

fn log(outcome: &Outcome) {
    let Outcome {
        given,
        known,
        failed,
        not_given,
    } = outcome;
    let of = |reason| not_given.get(&reason).copied().unwrap_or_default();
    let direct_return = of(NotGiven::DirectReturn);
    let sctp = of(NotGiven::Sctp);
    info!(
        given,
        known, failed, direct_return, sctp, "flows given to netfilter"
    );
    if failed + direct_return + sctp > 0 {
        warn!(
            failed,
            direct_return, sctp, "flows that netfilter does not go on with end with the programs"
        );
    }
}
