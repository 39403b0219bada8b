//! Putting the programs on devices, and keeping them there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::Ebpf;
use tracing::{error, warn};

use super::cleanup::remove_filters;
use super::device::{Device, LinkLayer, Role, edge_devices};
use super::link::{Direction, Link, LinkState};
use super::socket_path::{SocketPath, SocketPathError};
use super::with_causes;
use super::xdp::{Uplinks, XdpError, XdpOutcome};
use crate::config::AttachMode;
use crate::maps::{
    LastingMaps, MapError, PinError, Pins, Predecessor, ProgramName, ProgramRejection, classifier,
};
use crate::status::DeviceReport;

/// A device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object lacks a program.
    #[error(transparent)]
    Object(#[from] MapError),
    /// The kernel refused both ways to attach.
    #[error("cannot attach to {direction} of {device} (has the process CAP_NET_ADMIN?)")]
    Rejected {
        /// The device's name.
        device: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// Why.
        #[source]
        source: ProgramRejection,
    },
}

/// What [`Attacher::reconcile`] did.
#[derive(Debug, Default)]
pub struct ReconcileOutcome {
    /// Devices that are served from now on.
    pub attached: Vec<(String, Role)>,
    /// Devices from which somebody had removed a program, which is back.
    pub restored: Vec<String>,
    /// Devices that are gone, or no edge any more.
    pub detached: Vec<String>,
    /// Devices that cannot be served; each is reported once.
    pub failed: Vec<AttachError>,
    /// Devices that have XDP from now on.
    pub xdp_attached: Vec<String>,
    /// Devices that cannot have XDP; each is reported once.
    pub xdp_failed: Vec<XdpError>,
}

/// Which devices [`Attacher::reconcile`] looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReconcileScope {
    /// Those that have come or changed.
    Changed,
    /// All: somebody may have detached a program.
    All,
}

/// Holds the programs, and a link for each direction of each edge device.
///
/// With pins, what is attached outlives it, and it goes on from what another one has
/// left; without, dropping it detaches.
pub struct Attacher {
    programs: Ebpf,
    way: AttachMode,
    uplinks: Uplinks,
    pins: Option<Pins>,
    /// What is pinned besides the links.
    maps: LastingMaps,
    /// Since when the pins cannot be made that somebody has removed.
    unpinned: Option<Instant>,
    /// Whose programs still run, with other maps.
    predecessor: Option<Predecessor>,
    attached: BTreeMap<u32, Attached>,
    /// Devices that cannot be served.
    failed: BTreeMap<u32, Failed>,
}

struct Attached {
    name: String,
    role: Role,
    link: LinkLayer,
    /// Of each direction; none where the kernel refuses it.
    ingress: Option<Link>,
    egress: Option<Link>,
}

/// A device that cannot be served.
struct Failed {
    since: Instant,
    name: String,
    role: Role,
    reason: String,
}

impl Attached {
    fn is_complete(&self) -> bool {
        self.ingress.is_some() && self.egress.is_some()
    }
}

impl Attacher {
    /// An attacher of loaded programs.
    pub fn new(
        programs: Ebpf,
        way: AttachMode,
        uplinks: Uplinks,
        (pins, maps): (Option<Pins>, LastingMaps),
        predecessor: Option<Predecessor>,
    ) -> Self {
        Self {
            programs,
            way,
            uplinks,
            pins,
            maps,
            unpinned: None,
            predecessor,
            attached: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Attaches the programs at sockets to `cgroup`, or to the root of all, where and as the
    /// others are pinned.
    pub fn attach_to_sockets(
        &mut self,
        cgroup: Option<&Path>,
    ) -> Result<SocketPath, SocketPathError> {
        let pins = self.pins.as_ref();
        SocketPath::attach(&mut self.programs, cgroup, pins, self.predecessor.as_ref())
    }

    /// Detaches what an agent has left at sockets.
    pub fn detach_from_sockets(&self) -> Result<(), PinError> {
        self.pins.as_ref().map_or(Ok(()), SocketPath::detach_left)
    }

    /// Number of devices that are served.
    pub fn served(&self) -> usize {
        let attached = self.attached.values();
        attached.filter(|it| it.is_complete()).count()
    }

    /// Whether what leaves by a device is served there.
    pub fn serves_outside(&self, index: u32) -> bool {
        let attached = self.attached.get(&index);
        attached.is_some_and(|it| it.role == Role::Outside)
    }

    /// Number of devices that have XDP.
    pub fn with_xdp(&self) -> usize {
        self.uplinks.served()
    }

    /// For how long there has been an edge device that cannot be served, or a pin that
    /// cannot be made.
    pub fn failing_for(&self) -> Option<Duration> {
        let failed = self.failed.values().map(|it| &it.since);
        let since = failed.chain(&self.unpinned).min();
        since.map(Instant::elapsed)
    }

    /// How each edge device is served.
    pub fn device_reports(&self) -> Vec<DeviceReport> {
        let attached = self.attached.iter().map(|(index, it)| {
            let failed = self.failed.get(index).map(|it| it.reason.clone());
            let links = [&it.ingress, &it.egress];
            DeviceReport {
                name: it.name.clone(),
                role: it.role.into(),
                attached: links.map(|link| link.as_ref().map(|it| it.way().to_owned())),
                xdp: self.uplinks.has(*index),
                why: failed.or_else(|| self.why_not_better(*index, it)),
            }
        });
        let failed = self.failed.iter();
        let failed = failed.filter(|(index, _)| !self.attached.contains_key(index));
        let failed = failed.map(|(_, it)| DeviceReport {
            name: it.name.clone(),
            role: it.role.into(),
            attached: [None, None],
            xdp: false,
            why: Some(it.reason.clone()),
        });
        let mut reports: Vec<_> = attached.chain(failed).collect();
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }

    /// Why a device has no tcx, or no XDP.
    fn why_not_better(&self, index: u32, attached: &Attached) -> Option<String> {
        let is_filter = attached.ingress.as_ref().is_some_and(Link::is_filter);
        let no_tcx = match self.way {
            _ if !is_filter => None,
            AttachMode::Clsact => Some("clsact: the setting attach".to_owned()),
            AttachMode::Auto | AttachMode::Tcx => {
                Some("clsact: this kernel has no tcx (Linux 6.6)".to_owned())
            }
        };
        let no_xdp = match attached.role {
            Role::Outside => self.uplinks.why_not(index),
            Role::Pod => None,
        };
        let reasons: Vec<_> = [no_tcx, no_xdp].into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Makes pins anew that somebody has removed, and locks what was mounted in the place of
    /// the BPF file system.
    fn restore_pins(&mut self) {
        let Some(pins) = &mut self.pins else {
            return;
        };
        match pins.restore(&self.maps) {
            Ok(is_made) => {
                self.unpinned = None;
                if is_made {
                    warn!("somebody has removed the pins; they are there again");
                    let mark = (!self.attached.is_empty()).then(|| pins.mark_attached());
                    if let Some(Err(error)) = mark {
                        warn!("{error}");
                    }
                }
            }
            Err(error) if self.unpinned.is_none() => {
                self.unpinned = Some(Instant::now());
                error!(
                    "the pins were removed and cannot be made again; Services stop working \
                     when the agent stops: {:#}",
                    anyhow::Error::from(error)
                );
            }
            Err(_) => {}
        }
    }

    /// Pins the links of programs at sockets again whose pins were removed.
    pub fn keep_socket_pins(&self, path: &mut SocketPath) -> Result<(), SocketPathError> {
        let pins = self.pins.as_ref().filter(|_| self.unpinned.is_none());
        pins.map_or(Ok(()), |pins| path.keep_pins(pins))
    }

    /// Makes the served devices the edges among `devices`, and sees to it that those that it
    /// looks at have their programs.
    ///
    /// A device whose role changed gets its new programs in the place of the old ones.
    pub fn reconcile(
        &mut self,
        devices: &[Device],
        node: &BTreeSet<IpAddr>,
        look: ReconcileScope,
    ) -> ReconcileOutcome {
        let mut outcome = ReconcileOutcome::default();
        if look == ReconcileScope::All {
            self.restore_pins();
        }
        let edges: Vec<(&Device, Role)> = edge_devices(devices, node).collect();
        let present: BTreeSet<u32> = edges.iter().map(|(device, _)| device.index).collect();
        self.failed.retain(|index, _| present.contains(index));
        self.uplinks.release(&edges);
        for &(device, role) in &edges {
            if look == ReconcileScope::Changed && self.is_served_as(device, role) {
                continue;
            }
            let was_served = self.attached.contains_key(&device.index);
            match self.serve(device, role, &mut outcome) {
                Ok(()) => {
                    self.failed.remove(&device.index);
                }
                // Devices of Pods come and go while they are gone through.
                Err(_) if is_gone(device) => {
                    self.attached.remove(&device.index);
                    if was_served {
                        outcome.detached.push(device.name.clone());
                    }
                }
                Err(error) => {
                    if let Entry::Vacant(new) = self.failed.entry(device.index) {
                        new.insert(Failed {
                            since: Instant::now(),
                            name: device.name.clone(),
                            role,
                            reason: with_causes(&error),
                        });
                        outcome.failed.push(error);
                    }
                }
            }
        }
        self.attached.retain(|index, attached| {
            let stays = present.contains(index);
            if !stays {
                outcome.detached.push(attached.name.clone());
            }
            stays
        });
        self.tidy_pins(&present);
        if let Some(predecessor) = self.predecessor.take()
            && let Err(error) = predecessor.migrate_remaining()
        {
            warn!("cannot migrate flows created during startup: {error}");
        }
        let mut served = edges;
        served.retain(|(device, _)| {
            let attached = self.attached.get(&device.index);
            attached.is_some_and(Attached::is_complete)
        });
        let XdpOutcome { attached, failed } =
            self.uplinks.attach(&mut self.programs, devices, &served);
        outcome.xdp_attached = attached;
        outcome.xdp_failed = failed;
        outcome
    }

    /// Marks for the next agent that programs with these maps are attached.
    pub fn mark_attached(&self) -> Result<(), PinError> {
        self.pins.as_ref().map_or(Ok(()), Pins::mark_attached)
    }

    /// Whether what is attached outlives this process.
    pub fn is_lasting(&self) -> bool {
        self.pins.is_some()
    }

    /// Whether a device has had its programs since it has been as it is.
    fn is_served_as(&self, device: &Device, role: Role) -> bool {
        let attached = self.attached.get(&device.index);
        attached.is_some_and(|it| it.is_complete() && it.role == role && it.link == device.link)
    }

    /// Puts the programs on a device, or sees to it that they are still there. What fails
    /// at one direction leaves the other as it is.
    fn serve(
        &mut self,
        device: &Device,
        role: Role,
        outcome: &mut ReconcileOutcome,
    ) -> Result<(), AttachError> {
        let programs = programs_for(role, device.link);
        let is_same = self.is_served_as(device, role);
        let before = self.attached.remove(&device.index);
        let is_new = before.is_none();
        let (held_ingress, held_egress) =
            before.map_or((None, None), |before| (before.ingress, before.egress));
        // Egress first: it translates the answers to what ingress has translated.
        let egress = self.put(programs.1, device, Direction::Egress, held_egress);
        let ingress = self.put(programs.0, device, Direction::Ingress, held_ingress);
        let (ingress, at_ingress, no_ingress) = taken(ingress);
        let (egress, at_egress, no_egress) = taken(egress);
        let is_by_link = ingress.as_ref().is_some_and(|link| !link.is_filter());
        if ingress.is_some() || egress.is_some() {
            let attached = Attached {
                name: device.name.clone(),
                role,
                link: device.link,
                ingress,
                egress,
            };
            self.attached.insert(device.index, attached);
        }
        if let Some(error) = no_ingress.or(no_egress) {
            return Err(error);
        }
        if is_new && self.way != AttachMode::Clsact && is_by_link {
            // Of an agent that attached in the other way.
            remove_filters(&device.name);
        }
        if !is_same {
            outcome.attached.push((device.name.clone(), role));
        } else if [at_ingress, at_egress].contains(&Some(LinkState::Reattached)) {
            outcome.restored.push(device.name.clone());
        }
        Ok(())
    }

    fn put(
        &mut self,
        name: ProgramName,
        device: &Device,
        direction: Direction,
        held: Option<Link>,
    ) -> Put {
        let program = classifier(&mut self.programs, name)?;
        let (way, pins) = (self.way, self.pins.as_ref());
        let put = match held {
            Some(link) => link.keep(program, device, way, pins),
            None => Link::attach(program, device, direction, way, pins)
                .map(|link| (link, LinkState::Reattached)),
        };
        put.map_err(|source| AttachError::Rejected {
            device: device.name.clone(),
            direction: direction.as_str(),
            source: source.into(),
        })
    }

    /// Removes the pins of devices that are gone or no edges: what still holds is
    /// detached by that. Maps of another layout are not used any more.
    fn tidy_pins(&self, present: &BTreeSet<u32>) {
        let Some(pins) = &self.pins else {
            return;
        };
        let names = pins.links().unwrap_or_else(|error| {
            warn!("{error}");
            Vec::new()
        });
        let is_gone = |name: &&String| {
            let index = name.split_once('-').map(|(index, _)| index.parse());
            matches!(index, Some(Ok(index)) if !present.contains(&index))
        };
        for name in names.iter().filter(is_gone) {
            if let Err(error) = fs::remove_file(pins.link(name)) {
                warn!(pin = name, "cannot remove the pin of a device: {error}");
            }
        }
        if let Err(error) = pins.remove_other_maps() {
            warn!("{error}");
        }
    }
}

impl Drop for Attacher {
    /// With pins, what is attached stays, whatever ends the agent.
    fn drop(&mut self) {
        if self.pins.is_some() {
            for attached in std::mem::take(&mut self.attached).into_values() {
                let links = attached.ingress.into_iter().chain(attached.egress);
                links.for_each(Link::keep_attached);
            }
        }
    }
}

type Put = Result<(Link, LinkState), AttachError>;

/// A link with its state, or why there is none.
fn taken(put: Put) -> (Option<Link>, Option<LinkState>, Option<AttachError>) {
    match put {
        Ok((link, state)) => (Some(link), Some(state), None),
        Err(error) => (None, None, Some(error)),
    }
}

/// Whether the device has gone, or has another name now, since it was listed. Its
/// notification is on its way.
#[expect(unsafe_code, reason = "a call of libc")]
fn is_gone(device: &Device) -> bool {
    let Ok(name) = CString::new(device.name.as_str()) else {
        return false;
    };
    // SAFETY: a string that ends in a zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    index != device.index
}

fn programs_for(role: Role, link: LinkLayer) -> (ProgramName, ProgramName) {
    match (role, link) {
        (Role::Pod, LinkLayer::Ethernet) => (ProgramName::IngressPod, ProgramName::EgressPod),
        (Role::Pod, LinkLayer::Ip) => (ProgramName::IngressPodIp, ProgramName::EgressPodIp),
        (Role::Outside, LinkLayer::Ethernet) => {
            (ProgramName::IngressOutside, ProgramName::EgressOutside)
        }
        (Role::Outside, LinkLayer::Ip) => {
            (ProgramName::IngressOutsideIp, ProgramName::EgressOutsideIp)
        }
    }
}
