//! Pinned state: what the last agent has left in the kernel, and this one will leave.

use std::time::Duration;

use anyhow::Result;
use tracing::{info, warn};

use super::handover::Handover;
use super::sockets::{self, SocketPathController};
use crate::agent::Agent;
use crate::attach::{Attacher, Uplinks};
use crate::config::Settings;
use crate::host::total_memory;
use crate::maps::{self, KernelMaps, MapSizes, Origin, PinError, Pins, RecordTables};

/// How often the pins of an agent that still runs are asked for.
const PAUSE: Duration = Duration::from_millis(200);

/// The pins, as soon as no other agent has them; none where there can be none.
pub(super) async fn open(settings: &Settings) -> Result<Option<Pins>, PinError> {
    let Some(bpffs) = &settings.own.bpffs else {
        return Ok(None);
    };
    let mut is_logged = false;
    loop {
        match Pins::open(bpffs) {
            Ok(pins) => return Ok(Some(pins)),
            Err(error @ PinError::InUse(_)) => {
                if !std::mem::replace(&mut is_logged, true) {
                    info!("{error}; waiting for it to exit");
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error @ PinError::NoFileSystem(_)) => {
                warn!("{error}: nothing is pinned; Services stop working when the agent stops");
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

/// What an agent starts with.
pub(super) struct Takeover {
    pub(super) agent: Agent<KernelMaps>,
    pub(super) attacher: Attacher,
    pub(super) records: RecordTables,
    pub(super) handover: Handover,
    pub(super) sockets: SocketPathController,
}

/// The sizes of the maps, by the machine's memory where nothing else is said.
fn sizes_of(settings: &Settings) -> MapSizes {
    let memory = total_memory().unwrap_or_else(|error| {
        warn!("{error}: the flow tables get their least size");
        0
    });
    let sizes = settings.own.maps.for_memory(memory);
    info!(
        records = sizes.flows,
        is_configured = settings.own.maps.flows != 0,
        memory_mib = memory >> 20,
        "flow records of each IP version"
    );
    sizes
}

/// An agent that goes on from what is pinned where that can be used.
pub(super) fn take_over(
    node_name: &str,
    settings: &Settings,
    pins: Option<Pins>,
) -> Result<Takeover> {
    let sizes = sizes_of(settings);
    let scope = sockets::scope_of(&settings.own);
    let mut loaded = maps::load(sizes, scope, pins.as_ref())?;
    let mut agent = Agent::new(node_name, settings, loaded.maps);
    if loaded.origin == Origin::Adopted
        && let Err(error) = agent.adopt()
    {
        warn!("{error}; creating new maps, connections may break");
        loaded = maps::load_new(sizes, scope, pins.as_ref())?;
        agent = Agent::new(node_name, settings, loaded.maps);
    }
    let foreign = (loaded.origin == Origin::New).then_some(loaded.netfilter_flows);
    let sockets = SocketPathController::new(loaded.opt_out, &settings.own);
    let attacher = Attacher::new(
        loaded.programs,
        settings.own.attach,
        Uplinks::new(settings.own.xdp, loaded.edge_devices),
        (pins, loaded.lasting),
        loaded.predecessor,
    );
    Ok(Takeover {
        agent,
        attacher,
        records: loaded.records,
        handover: Handover::new(foreign),
        sockets,
    })
}
