//! Pinned state: what the last agent has left in the kernel, and this one will leave.

use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tracing::{info, warn};

use super::handover::Handover;
use super::sockets::{self, SocketPathController};
use crate::agent::Agent;
use crate::attach::{Attacher, Uplinks};
use crate::config::Settings;
use crate::host::total_memory;
use crate::maps::{
    self, KernelMaps, Loaded, MapError, MapSizes, Origin, PinError, Pins, RecordTables,
    SocketScope, Standby,
};
use crate::metrics::Metrics;

/// How often the pins of an agent that still runs are asked for.
const PAUSE: Duration = Duration::from_millis(50);

/// What no other agent has any more.
#[derive(Default)]
pub(super) struct Opened {
    /// The pins; none where there can be none.
    pub(super) pins: Option<Pins>,
    /// The mark for the agent that had them until now.
    pub(super) standby: Option<Standby>,
}

/// Opens the pins as soon as no other agent has them; `on_standby` is called when one does.
pub(super) async fn open(settings: &Settings, on_standby: impl Fn()) -> Result<Opened, PinError> {
    let mut standby = None;
    let Some(bpffs) = &settings.own.bpffs else {
        return Ok(Opened::default());
    };
    let mut is_logged = false;
    loop {
        match Pins::open(bpffs) {
            Ok(pins) => {
                let pins = Some(pins);
                return Ok(Opened { pins, standby });
            }
            Err(error @ PinError::InUse(_)) => {
                standby = standby.or_else(|| announce(bpffs));
                if !std::mem::replace(&mut is_logged, true) {
                    info!("{error}; waiting for it to exit");
                    on_standby();
                }
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) if leaves_nothing(&error) => {
                warn_of(error);
                return Ok(Opened::default());
            }
            Err(error) => return Err(error),
        }
    }
}

fn announce(bpffs: &Path) -> Option<Standby> {
    Standby::announce(bpffs)
        .inspect_err(|error| warn!("nobody will answer health checks for a moment: {error}"))
        .ok()
}

/// Whether there can be no pins, and are none: such as where a security module's profile
/// denies writing. Beside the pins of another agent nothing else must be attached.
fn leaves_nothing(error: &PinError) -> bool {
    match error {
        PinError::NoFileSystem(_) => true,
        PinError::InUse(_) => false,
        PinError::File { path, source } => is_denied(source) && !path.exists(),
    }
}

fn is_denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// Whether maps cannot be pinned, as to a process that may make folders but not pins.
fn denies_pins(error: &MapError) -> bool {
    let mut causes = anyhow::Chain::new(error).filter_map(|cause| cause.downcast_ref());
    matches!(error, MapError::Pin { .. } | MapError::Pins(_)) && causes.any(is_denied)
}

fn warn_of(error: impl Into<anyhow::Error>) {
    warn!(
        "{:#}: nothing is pinned; Services stop working when the agent stops",
        error.into()
    );
}

/// Loads the maps, without pins where these are denied and no agent has left any behind.
fn load(sizes: MapSizes, scope: SocketScope, pins: &mut Option<Pins>) -> Result<Loaded, MapError> {
    match maps::load(sizes, scope, pins.as_ref()) {
        Err(error)
            if denies_pins(&error)
                && pins
                    .as_ref()
                    .is_some_and(|pins| pins.links().is_ok_and(|links| links.is_empty())) =>
        {
            warn_of(error);
            *pins = None;
            maps::load_new(sizes, scope, None)
        }
        loaded => loaded,
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
    mut pins: Option<Pins>,
    metrics: &Metrics,
) -> Result<Takeover> {
    let sizes = sizes_of(settings);
    let scope = sockets::scope_of(&settings.own);
    // Maps may be pinned by an agent that was never able to attach programs.
    let were_attached = pins.as_ref().is_some_and(Pins::were_attached);
    let mut loaded = load(sizes, scope, &mut pins)?;
    let agent_of = |maps| Agent::new(node_name, settings, maps).with_metrics(metrics.clone());
    let mut agent = agent_of(loaded.maps);
    if loaded.origin == Origin::Adopted
        && let Err(error) = agent.adopt()
    {
        warn!("{error}; creating new maps, connections may break");
        loaded = maps::load_new(sizes, scope, pins.as_ref())?;
        agent = agent_of(loaded.maps);
    }
    if were_attached {
        agent.note_attached();
    }
    let is_first = loaded.origin == Origin::New || !were_attached;
    let foreign = is_first.then_some(loaded.netfilter_flows);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_pins_are_denied_and_there_are_none_the_agent_serves_without() {
        let file = |path: &str, kind: io::ErrorKind| PinError::File {
            path: path.into(),
            source: kind.into(),
        };
        let denied = io::ErrorKind::PermissionDenied;
        assert!(leaves_nothing(&PinError::NoFileSystem("/b".into())));
        assert!(leaves_nothing(&file("/nowhere/at/all", denied)));
        assert!(!leaves_nothing(&file(
            "/nowhere/at/all",
            io::ErrorKind::StorageFull
        )));
        // Something is there, perhaps links of an agent that was allowed to.
        assert!(!leaves_nothing(&file("/", denied)));
        assert!(!leaves_nothing(&PinError::InUse("/b".into())));

        assert!(denies_pins(&file("/b", denied).into()));
        let other = MapError::System {
            call: "bpf",
            source: denied.into(),
        };
        assert!(!denies_pins(&other));
    }
}
