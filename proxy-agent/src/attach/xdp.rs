//! XDP on uplinks, in front of the programs of TC, which serve whatever it leaves.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use aya::programs::ProgramError;
use aya::programs::xdp::{XdpLink, XdpMode};
use proxy_ebpf::layout::{EdgeDevice, LinkAddress, XdpDeviceFlags, xdp_device_flags};

use super::device::{Device, DeviceKind, LinkLayer, Role, frame_addresses};
use super::with_causes;
use crate::config::XdpChoice;
use crate::maps::{EdgeDevices, MapError, ProgramRejection, xdp};

/// XDP does not work on a device; TC serves it.
#[derive(Debug, thiserror::Error)]
pub enum XdpError {
    /// The object lacks the program, or a map is full.
    #[error(transparent)]
    Object(#[from] MapError),
    /// The kernel's verifier, or the driver, does not take the program.
    #[error("no XDP on {device}, which TC serves alone")]
    Rejected {
        /// The device's name.
        device: String,
        /// Why: a driver without native XDP, a program of somebody else, or an MTU that
        /// is too large.
        #[source]
        source: ProgramRejection,
    },
}

/// What [`Uplinks::attach`] did.
#[derive(Debug, Default)]
pub(super) struct XdpOutcome {
    /// Devices that have XDP from now on.
    pub(super) attached: Vec<String>,
    /// Devices that cannot have it; each is reported once.
    pub(super) failed: Vec<XdpError>,
}

/// The uplinks that have XDP.
///
/// A packet that XDP has translated needs the program of TC behind it to know that. So
/// XDP comes to a device after that program, and leaves before it.
pub struct Uplinks {
    choice: XdpChoice,
    map: EdgeDevices,
    /// What the map says.
    known: BTreeMap<u32, EdgeDevice>,
    /// Held for their effect: dropping one detaches.
    links: BTreeMap<u32, XdpLink>,
    /// Devices that cannot have XDP, as far as is known, and why.
    failed: BTreeMap<u32, String>,
}

impl Uplinks {
    /// None yet. `map` is where programs look devices up.
    pub fn new(choice: XdpChoice, map: EdgeDevices) -> Self {
        Self {
            choice,
            map,
            known: BTreeMap::new(),
            links: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Number of devices that have XDP.
    pub(super) fn served(&self) -> usize {
        self.links.len()
    }

    /// Whether a device has XDP.
    pub(super) fn has(&self, device: u32) -> bool {
        self.links.contains_key(&device)
    }

    /// Why an uplink has no XDP.
    pub(super) fn why_not(&self, device: u32) -> Option<String> {
        if self.has(device) {
            return None;
        }
        let failed = self.failed.get(&device).cloned();
        Some(failed.unwrap_or_else(|| {
            let why = match self.choice {
                XdpChoice::Auto => "no XDP: with the setting xdp auto, hardware and bonds have it",
                XdpChoice::Always => "no XDP: no Ethernet",
                XdpChoice::Never => "no XDP: the setting xdp is never",
            };
            why.to_owned()
        }))
    }

    /// Takes XDP from all devices that must not have it, before the programs of TC
    /// change there.
    pub(super) fn release(&mut self, edges: &[(&Device, Role)]) {
        let choice = self.choice;
        let uplinks = edges
            .iter()
            .filter(|(device, role)| is_wanted(choice, device, *role));
        let may_have: BTreeSet<u32> = uplinks.map(|(device, _)| device.index).collect();
        self.failed.retain(|index, _| may_have.contains(index));
        let known = self.links.keys().copied();
        let gone: Vec<u32> = known.filter(|it| !may_have.contains(it)).collect();
        for index in gone {
            // What the map still says where it refuses, `attach` puts right.
            let _ = self.set(index, None);
            self.links.remove(&index);
        }
    }

    /// Gives XDP to those of the devices that may have it, all of which TC serves; `devices` are
    /// all that there are.
    pub(super) fn attach(
        &mut self,
        object: &mut Ebpf,
        devices: &[Device],
        served: &[(&Device, Role)],
    ) -> XdpOutcome {
        let mut outcome = XdpOutcome::default();
        for (device, role) in served {
            let has_xdp = self.links.contains_key(&device.index);
            if has_xdp || !is_wanted(self.choice, device, *role) {
                continue;
            }
            match attach(object, device) {
                Ok(link) => {
                    self.links.insert(device.index, link);
                    self.failed.remove(&device.index);
                    outcome.attached.push(device.name.clone());
                }
                Err(error) => {
                    let reason = with_causes(&error);
                    if self.failed.insert(device.index, reason).is_none() {
                        outcome.failed.push(error);
                    }
                }
            }
        }
        let wanted = self.wanted(devices, served);
        let gone: Vec<u32> = self.known.keys().copied().collect();
        let gone = gone.into_iter().filter(|index| !wanted.contains_key(index));
        let changes = gone.map(|index| (index, None));
        for (index, known) in changes.chain(wanted.iter().map(|(index, it)| (*index, Some(*it)))) {
            if let Err(error) = self.set(index, known) {
                outcome.failed.push(error.into());
            }
        }
        outcome
    }

    /// What the map should say: of uplinks, and of the members of those that are bonds.
    fn wanted(&self, devices: &[Device], served: &[(&Device, Role)]) -> BTreeMap<u32, EdgeDevice> {
        let addresses = frame_addresses(devices);
        let of = |device: &Device, xdp| {
            let mut known = EdgeDevice {
                xdp,
                ..EdgeDevice::default()
            };
            let frames = addresses.get(&device.index).into_iter().flatten();
            for (place, address) in known.addresses.iter_mut().zip(frames) {
                *place = LinkAddress::from(*address);
            }
            (device.index, known)
        };
        let uplinks = served
            .iter()
            .filter(|(device, role)| is_uplink(device, *role));
        let edges = uplinks.clone().map(|(device, _)| {
            let has_xdp = self.links.contains_key(&device.index);
            of(device, flags(device, has_xdp))
        });
        let controllers: BTreeSet<u32> = uplinks.map(|(device, _)| device.index).collect();
        let is_member = |device: &&Device| {
            let controller = device.controller.as_ref();
            controller.is_some_and(|index| controllers.contains(index))
        };
        let members = devices.iter().filter(is_member);
        edges.chain(members.map(|device| of(device, 0))).collect()
    }

    fn set(&mut self, index: u32, known: Option<EdgeDevice>) -> Result<(), MapError> {
        if self.known.get(&index).copied() == known {
            return Ok(());
        }
        self.map.set(index, known)?;
        match known {
            Some(known) => self.known.insert(index, known),
            None => self.known.remove(&index),
        };
        Ok(())
    }
}

/// Whether frames from outside come in by a device.
fn is_uplink(device: &Device, role: Role) -> bool {
    role == Role::Outside && device.link == LinkLayer::Ethernet
}

/// Whether a device in this role is to have XDP.
fn is_wanted(choice: XdpChoice, device: &Device, role: Role) -> bool {
    is_uplink(device, role)
        && match choice {
            XdpChoice::Auto => matches!(device.kind, DeviceKind::Hardware | DeviceKind::Bond),
            XdpChoice::Always => true,
            XdpChoice::Never => false,
        }
}

/// What XDP can do with an uplink. Every driver with native XDP can send back, but a
/// veth wakes its other end only for what is redirected to it, if at all
/// (`veth_xdp_flush` and `veth_xdp_xmit` in `drivers/net/veth.c`). A pod is no target:
/// its network policy may be in programs at the egress of its device.
fn flags(device: &Device, has_xdp: bool) -> XdpDeviceFlags {
    let mut flags = 0;
    if has_xdp && device.kind != DeviceKind::Veth {
        flags |= xdp_device_flags::TX;
    }
    if device.is_xdp_target == Some(true) {
        flags |= xdp_device_flags::REDIRECT;
    }
    flags
}

/// By the driver, never generically: TC is better there.
fn attach(object: &mut Ebpf, device: &Device) -> Result<XdpLink, XdpError> {
    let program = xdp(object)?;
    let rejected = |source: ProgramError| XdpError::Rejected {
        device: device.name.clone(),
        source: source.into(),
    };
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(rejected(error)),
    }
    let id = program
        .attach_to_if_index(device.index, XdpMode::Driver)
        .map_err(rejected)?;
    program.take_link(id).map_err(rejected)
}
