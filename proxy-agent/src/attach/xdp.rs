//! XDP on uplinks, in front of the programs of TC, which serve whatever it leaves.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use aya::programs::ProgramError;
use aya::programs::xdp::{XdpLink, XdpMode};
use proxy_ebpf::layout::{XdpDeviceFlags, xdp_device_flags};

use super::device::{Device, DeviceKind, LinkLayer, Role};
use crate::config::XdpChoice;
use crate::maps::{MapError, ProgramRejection, XdpDevices, xdp};

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
    devices: XdpDevices,
    /// What the map says.
    flags: BTreeMap<u32, XdpDeviceFlags>,
    /// Held for their effect: dropping one detaches.
    links: BTreeMap<u32, XdpLink>,
    /// Devices that cannot have XDP, as far as is known.
    failed: BTreeSet<u32>,
}

impl Uplinks {
    /// None yet. `devices` is the map from which XDP knows what it can do.
    pub fn new(choice: XdpChoice, devices: XdpDevices) -> Self {
        Self {
            choice,
            devices,
            flags: BTreeMap::new(),
            links: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// Number of devices that have XDP.
    pub(super) fn served(&self) -> usize {
        self.links.len()
    }

    /// Takes XDP from all devices that must not have it, before the programs of TC
    /// change there.
    pub(super) fn release(&mut self, edges: &[(&Device, Role)]) {
        let choice = self.choice;
        let uplinks = edges
            .iter()
            .filter(|(device, role)| is_wanted(choice, device, *role));
        let may_have: BTreeSet<u32> = uplinks.map(|(device, _)| device.index).collect();
        self.failed.retain(|index| may_have.contains(index));
        let known = self.links.keys().copied();
        let gone: Vec<u32> = known.filter(|it| !may_have.contains(it)).collect();
        for index in gone {
            // What the map still says where it refuses, `attach` puts right.
            let _ = self.set_flags(index, 0);
            self.links.remove(&index);
        }
    }

    /// Gives XDP to those of the devices that may have it, all of which TC serves.
    pub(super) fn attach(&mut self, object: &mut Ebpf, served: &[(&Device, Role)]) -> XdpOutcome {
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
                    if self.failed.insert(device.index) {
                        outcome.failed.push(error);
                    }
                }
            }
        }
        for (index, flags) in self.wanted_flags(served) {
            if let Err(error) = self.set_flags(index, flags) {
                outcome.failed.push(error.into());
            }
        }
        outcome
    }

    /// What the map should say: nothing, as long as nobody would read it.
    fn wanted_flags(&self, served: &[(&Device, Role)]) -> BTreeMap<u32, XdpDeviceFlags> {
        let mut wanted: BTreeMap<u32, XdpDeviceFlags> =
            self.flags.keys().map(|it| (*it, 0)).collect();
        if !self.links.is_empty() {
            wanted.extend(served.iter().map(|(device, role)| {
                let has_xdp = self.links.contains_key(&device.index);
                (device.index, flags(device, *role, has_xdp))
            }));
        }
        wanted
    }

    fn set_flags(&mut self, index: u32, flags: XdpDeviceFlags) -> Result<(), MapError> {
        if self.flags.get(&index).copied().unwrap_or(0) == flags {
            return Ok(());
        }
        self.devices.set(index, flags)?;
        if flags == 0 {
            self.flags.remove(&index);
        } else {
            self.flags.insert(index, flags);
        }
        Ok(())
    }
}

/// Whether a device in this role is to have XDP.
fn is_wanted(choice: XdpChoice, device: &Device, role: Role) -> bool {
    let is_uplink = role == Role::Outside && device.link == LinkLayer::Ethernet;
    is_uplink
        && match choice {
            XdpChoice::Auto => matches!(device.kind, DeviceKind::Hardware | DeviceKind::Bond),
            XdpChoice::Always => true,
            XdpChoice::Never => false,
        }
}

/// What XDP can do with a device. Every driver with native XDP can send back, but a
/// veth wakes its other end only for what is redirected to it, if at all
/// (`veth_xdp_flush` and `veth_xdp_xmit` in `drivers/net/veth.c`). A pod is no target:
/// its network policy may be in programs at the egress of its device.
fn flags(device: &Device, role: Role, has_xdp: bool) -> XdpDeviceFlags {
    let mut flags = 0;
    if has_xdp && device.kind != DeviceKind::Veth {
        flags |= xdp_device_flags::TX;
    }
    let is_uplink = role == Role::Outside && device.link == LinkLayer::Ethernet;
    if is_uplink && device.is_xdp_target == Some(true) {
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
