//! What drivers say that they can do with XDP, over the generic netlink family
//! `netdev` (Linux 6.3).

use std::collections::HashMap;
use std::fmt::Debug;
use std::io;

use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use rtnetlink::packet_core::{
    DecodeError, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator, ParseableParametrized,
};
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

// Of `linux/netdev.h`.
const FAMILY: &str = "netdev";
const VERSION: u8 = 1;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_NDO_XMIT: u64 = 4;

/// The devices to which XDP may redirect packets, each with whether it may; `None` where
/// the kernel does not say.
pub(super) fn targets() -> Option<HashMap<u32, bool>> {
    devices_with(NETDEV_XDP_ACT_NDO_XMIT)
}

/// Devices by their indices, each with whether its driver runs XDP; `None` where the kernel does
/// not say.
pub fn natives() -> Option<HashMap<u32, bool>> {
    devices_with(NETDEV_XDP_ACT_BASIC)
}

/// All devices, each with whether its driver has a feature.
fn devices_with(feature: u64) -> Option<HashMap<u32, bool>> {
    let family = family().ok()??;
    let request = GenlMessage::new(
        GenlHeader {
            cmd: NETDEV_CMD_DEV_GET,
            version: VERSION,
        },
        DeviceFeatures::default(),
        family,
    );
    let devices = ask(request, NLM_F_REQUEST | NLM_F_DUMP).ok()?;
    let has_it = |device: DeviceFeatures| (device.index, device.features & feature != 0);
    Some(devices.into_iter().map(has_it).collect())
}

/// The number of the family, which is given when the kernel starts; `None` without it.
fn family() -> io::Result<Option<u16>> {
    let request = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
    });
    let answers = ask(request, NLM_F_REQUEST)?;
    let mut attributes = answers.into_iter().flat_map(|answer| answer.nlas);
    Ok(attributes.find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(id),
        _ => None,
    }))
}

/// Asks once, and returns all answers. It waits for nobody: the kernel has answered when
/// the request is sent.
///
/// On a socket of its own, since the answers about devices do not say that they are parts
/// of a series (`NLM_F_MULTI`; `netdev_nl_dev_fill` in `net/core/netdev-genl.c`).
fn ask<F>(request: GenlMessage<F>, flags: u16) -> io::Result<Vec<F>>
where
    F: Debug,
    GenlMessage<F>: NetlinkSerializable + NetlinkDeserializable,
{
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), request.into());
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_GENERIC)?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let mut all = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer =
                NetlinkMessage::<GenlMessage<F>>::deserialize(rest).map_err(io::Error::other)?;
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => all.push(message.payload),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                _ => return Ok(all),
            }
            let length = (answer.header.length as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
        if flags & NLM_F_DUMP == 0 {
            return Ok(all);
        }
    }
}

/// A device with the bits of its driver (`enum netdev_xdp_act`); empty in a request for
/// all of them.
#[derive(Clone, Copy, Debug, Default)]
struct DeviceFeatures {
    index: u32,
    features: u64,
}

impl GenlFamily for DeviceFeatures {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        NETDEV_CMD_DEV_GET
    }

    fn version(&self) -> u8 {
        VERSION
    }
}

impl Emitable for DeviceFeatures {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _: &mut [u8]) {}
}

impl ParseableParametrized<[u8], GenlHeader> for DeviceFeatures {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self::default();
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NETDEV_A_DEV_IFINDEX => {
                    device.index = value.try_into().map_or(0, u32::from_ne_bytes);
                }
                NETDEV_A_DEV_XDP_FEATURES => {
                    device.features = value.try_into().map_or(0, u64::from_ne_bytes);
                }
                _ => {}
            }
        }
        Ok(device)
    }
}
