//! Putting the programs on devices, and keeping them there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::Ebpf;
use tracing::warn;

use super::cleanup::remove_filters;
use super::device::{Device, LinkLayer, Role, edge_devices};
use super::link::{Direction, Link, LinkState};
use super::socket_path::{SocketPath, SocketPathError};
use super::xdp::{Uplinks, XdpError, XdpOutcome};
use crate::config::AttachMode;
use crate::maps::{
    MapError, PinError, Pins, Predecessor, ProgramName, ProgramRejection, classifier,
};

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
    /// Whose programs still run, with other maps.
    predecessor: Option<Predecessor>,
    attached: BTreeMap<u32, Attached>,
    /// Devices that cannot be served, since when.
    failed: BTreeMap<u32, Instant>,
}

struct Attached {
    name: String,
    role: Role,
    link: LinkLayer,
    ingress: Link,
    egress: Link,
}

impl Attacher {
    /// An attacher of loaded programs.
    pub fn new(
        programs: Ebpf,
        way: AttachMode,
        uplinks: Uplinks,
        pins: Option<Pins>,
        predecessor: Option<Predecessor>,
    ) -> Self {
        Self {
            programs,
            way,
            uplinks,
            pins,
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
        self.attached.len()
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

    /// For how long there has been an edge device that cannot be served.
    pub fn failing_for(&self) -> Option<Duration> {
        self.failed.values().min().map(Instant::elapsed)
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
                Ok(attached) => {
                    self.failed.remove(&device.index);
                    self.attached.insert(device.index, attached);
                }
                // Devices of Pods come and go while they are gone through.
                Err(_) if is_gone(device) => {
                    if was_served {
                        outcome.detached.push(device.name.clone());
                    }
                }
                Err(error) => {
                    if let Entry::Vacant(new) = self.failed.entry(device.index) {
                        new.insert(Instant::now());
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
        served.retain(|(device, _)| self.attached.contains_key(&device.index));
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
        attached.is_some_and(|it| it.role == role && it.link == device.link)
    }

    /// Puts the programs on a device, or sees to it that they are still there.
    fn serve(
        &mut self,
        device: &Device,
        role: Role,
        outcome: &mut ReconcileOutcome,
    ) -> Result<Attached, AttachError> {
        let (ingress, egress) = programs_for(role, device.link);
        let is_same = self.is_served_as(device, role);
        let before = self.attached.remove(&device.index);
        let links = match before {
            Some(before) => [Some(before.ingress), Some(before.egress)],
            None => [None, None],
        };
        let is_new = links[0].is_none();
        let [held_ingress, held_egress] = links;
        let (ingress, at_ingress) = self.put(ingress, device, Direction::Ingress, held_ingress)?;
        let (egress, at_egress) = self.put(egress, device, Direction::Egress, held_egress)?;
        if is_new && self.way != AttachMode::Clsact && !ingress.is_filter() {
            // Of an agent that attached in the other way.
            remove_filters(&device.name);
        }
        if !is_same {
            outcome.attached.push((device.name.clone(), role));
        } else if at_ingress == LinkState::Reattached || at_egress == LinkState::Reattached {
            outcome.restored.push(device.name.clone());
        }
        Ok(Attached {
            name: device.name.clone(),
            role,
            link: device.link,
            ingress,
            egress,
        })
    }

    fn put(
        &mut self,
        name: ProgramName,
        device: &Device,
        direction: Direction,
        held: Option<Link>,
    ) -> Result<(Link, LinkState), AttachError> {
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
                attached.ingress.keep_attached();
                attached.egress.keep_attached();
            }
        }
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
