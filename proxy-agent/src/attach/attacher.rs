//! Putting the programs on devices, and keeping them there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};

use super::cleanup::remove_filters;
use super::device::{Device, LinkLayer, Role, edges};
use crate::maps::{MapError, ProgramName, classifier};

/// Priority of our clsact filter at ingress: before a CNI's own, which shall see
/// plain traffic between clients and pods.
const FIRST_FILTER: u16 = 1;
/// Priority of our clsact filter at egress: after a CNI's own.
const LAST_FILTER: u16 = u16::MAX - 1;

/// How programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AttachWay {
    /// By tcx where the kernel has it, else by a clsact filter.
    #[default]
    Auto,
    /// By tcx only (Linux 6.6).
    Tcx,
    /// By clsact filters only.
    Clsact,
}

/// A device cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object lacks a program.
    #[error(transparent)]
    Object(#[from] MapError),
    /// The kernel refused both ways to attach.
    #[error("cannot attach to {direction} of {device} (has the process CAP_NET_ADMIN?)")]
    Refused {
        /// The device's name.
        device: String,
        /// `ingress` or `egress`.
        direction: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
}

/// What [`Attacher::reconcile`] did.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Devices that are served from now on.
    pub attached: Vec<(String, Role)>,
    /// Devices that are gone, or no edge any more.
    pub detached: Vec<String>,
    /// Devices that cannot be served; each is reported once.
    pub failed: Vec<AttachError>,
}

/// Holds the programs, and a link for each direction of each edge device.
///
/// Dropping it detaches: surviving the agent will be a matter of pinning the
/// links that are held here.
pub struct Attacher {
    programs: Ebpf,
    way: AttachWay,
    attached: BTreeMap<u32, Attached>,
    /// Devices that cannot be served, since when.
    failed: BTreeMap<u32, Instant>,
}

struct Attached {
    name: String,
    role: Role,
    link: LinkLayer,
    /// Held for its effect: dropping a link detaches.
    _links: [SchedClassifierLink; 2],
}

impl Attacher {
    /// An attacher of loaded programs.
    pub fn new(programs: Ebpf, way: AttachWay) -> Self {
        Self {
            programs,
            way,
            attached: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Number of devices that are served.
    pub fn served(&self) -> usize {
        self.attached.len()
    }

    /// For how long there has been an edge device that cannot be served.
    pub fn failing_for(&self) -> Option<Duration> {
        self.failed.values().min().map(Instant::elapsed)
    }

    /// Makes the served devices the edges among `devices`.
    ///
    /// A device whose role changed gets its new programs before it loses the old
    /// ones; a packet that meets both is translated once, because the second
    /// program sees no Service address any more.
    pub fn reconcile(&mut self, devices: &[Device], node: &BTreeSet<IpAddr>) -> Outcome {
        let mut outcome = Outcome::default();
        let present: BTreeSet<u32> = edges(devices, node)
            .map(|(device, _)| device.index)
            .collect();
        self.failed.retain(|index, _| present.contains(index));
        for (device, role) in edges(devices, node) {
            let is_served = self
                .attached
                .get(&device.index)
                .is_some_and(|attached| attached.role == role && attached.link == device.link);
            if is_served {
                continue;
            }
            if !self.attached.contains_key(&device.index) {
                // Of an agent that was killed; a device that is not served has none
                // of this agent's own.
                remove_filters(&device.name);
            }
            match self.attach(device, role) {
                Ok(attached) => {
                    outcome.attached.push((device.name.clone(), role));
                    self.failed.remove(&device.index);
                    self.attached.insert(device.index, attached);
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
        outcome
    }

    fn attach(&mut self, device: &Device, role: Role) -> Result<Attached, AttachError> {
        let (ingress, egress) = programs_for(role, device.link);
        Ok(Attached {
            name: device.name.clone(),
            role,
            link: device.link,
            _links: [
                self.attach_program(ingress, &device.name, TcAttachType::Ingress)?,
                self.attach_program(egress, &device.name, TcAttachType::Egress)?,
            ],
        })
    }

    fn attach_program(
        &mut self,
        name: ProgramName,
        device: &str,
        to: TcAttachType,
    ) -> Result<SchedClassifierLink, AttachError> {
        let program = classifier(&mut self.programs, name)?;
        let attached = match self.way {
            AttachWay::Tcx => attach_tcx(program, device, to),
            AttachWay::Clsact => attach_filter(program, device, to),
            AttachWay::Auto => {
                attach_tcx(program, device, to).or_else(|_| attach_filter(program, device, to))
            }
        };
        attached
            .and_then(|id| program.take_link(id))
            .map_err(|source| AttachError::Refused {
                device: device.to_owned(),
                direction: match to {
                    TcAttachType::Egress => "egress",
                    _ => "ingress",
                },
                source,
            })
    }
}

fn programs_for(role: Role, link: LinkLayer) -> (ProgramName, ProgramName) {
    match (role, link) {
        (Role::Pod, LinkLayer::Ethernet) => (ProgramName::IngressPod, ProgramName::Egress),
        (Role::Pod, LinkLayer::Ip) => (ProgramName::IngressPodIp, ProgramName::EgressIp),
        (Role::Outside, LinkLayer::Ethernet) => (ProgramName::IngressOutside, ProgramName::Egress),
        (Role::Outside, LinkLayer::Ip) => (ProgramName::IngressOutsideIp, ProgramName::EgressIp),
    }
}

/// Attaches by tcx: first of all at ingress, last of all at egress.
fn attach_tcx(
    program: &mut SchedClassifier,
    device: &str,
    to: TcAttachType,
) -> Result<tc::SchedClassifierLinkId, ProgramError> {
    let order = if to == TcAttachType::Ingress {
        LinkOrder::first()
    } else {
        LinkOrder::last()
    };
    program.attach_with_options(device, to, TcAttachOptions::TcxOrder(order))
}

/// Attaches a filter to the device's clsact qdisc, which is made if need be.
fn attach_filter(
    program: &mut SchedClassifier,
    device: &str,
    to: TcAttachType,
) -> Result<tc::SchedClassifierLinkId, ProgramError> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let priority = if to == TcAttachType::Ingress {
        FIRST_FILTER
    } else {
        LAST_FILTER
    };
    program.attach_with_options(
        device,
        to,
        TcAttachOptions::Netlink(NlOptions {
            priority,
            ..NlOptions::default()
        }),
    )
}
