//! Addresses that are this machine's because a route says so, such as `ip route add local
//! 203.0.113.9 dev eth0`: the kernel's table `local` has them and those of devices.

use std::net::IpAddr;

use futures::TryStreamExt as _;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, new_connection_with_strict_check};

/// `RT_TABLE_LOCAL` of `linux/rtnetlink.h`.
const LOCAL_TABLE: u8 = 255;

/// Asks for the routes to this machine itself.
pub(super) struct LocalRoutes(Handle);

impl LocalRoutes {
    /// Opens a socket on which the kernel filters what it lists: a router's other tables may be
    /// long. Needs a tokio runtime.
    pub(super) fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = new_connection_with_strict_check()?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// Each address that has a route of its own, with the index of the route's device. (A route
    /// to a whole network makes no address of a NodePort of each of its addresses.)
    pub(super) async fn list(&self) -> Result<Vec<(u32, IpAddr)>, rtnetlink::Error> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family;
            wanted.header.table = LOCAL_TABLE;
            wanted.header.kind = RouteType::Local;
            let mut routes = Box::pin(self.0.route().get(wanted).execute());
            while let Some(route) = routes.try_next().await? {
                found.extend(address_of(&route));
            }
        }
        Ok(found)
    }
}

fn address_of(route: &RouteMessage) -> Option<(u32, IpAddr)> {
    if !is_local(route) {
        return None;
    }
    let mut device = None;
    let mut address: Option<IpAddr> = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Destination(RouteAddress::Inet(it)) => address = Some((*it).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(it)) => address = Some((*it).into()),
            _ => {}
        }
    }
    let address = address?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    (route.header.destination_prefix_length == whole).then_some((device?, address))
}

fn is_local(route: &RouteMessage) -> bool {
    route.header.table == LOCAL_TABLE && route.header.kind == RouteType::Local
}

/// Whether a notification is one of this machine's devices or addresses; of other routes there may
/// be many.
pub(super) fn is_of_this_machine(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    match &message.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
        ) => is_local(route),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(address: IpAddr, prefix: u8) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.table = LOCAL_TABLE;
        route.header.kind = RouteType::Local;
        route.header.destination_prefix_length = prefix;
        route.attributes = vec![
            RouteAttribute::Destination(address.into()),
            RouteAttribute::Oif(7),
        ];
        route
    }

    #[test]
    fn a_route_to_one_address_makes_it_this_machines() {
        for (text, whole) in [("203.0.113.9", 32), ("2001:db8::9", 128)] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(&route(address, whole)), Some((7, address)));
            assert_eq!(address_of(&route(address, whole - 8)), None);
            let mut broadcast = route(address, whole);
            broadcast.header.kind = RouteType::Broadcast;
            assert_eq!(address_of(&broadcast), None);
            let mut elsewhere = route(address, whole);
            elsewhere.header.table = 254;
            assert_eq!(address_of(&elsewhere), None);
        }
    }

    #[test]
    fn routes_to_others_are_no_change_of_this_machine() {
        let mut other = route("203.0.113.9".parse().unwrap(), 32);
        other.header.kind = RouteType::Unicast;
        other.header.table = 254;
        let own = route("203.0.113.9".parse().unwrap(), 32);
        for (route, expected) in [(other, false), (own, true)] {
            let message = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(route.clone()));
            assert_eq!(is_of_this_machine(&message), expected);
            let message = NetlinkMessage::from(RouteNetlinkMessage::DelRoute(route));
            assert_eq!(is_of_this_machine(&message), expected);
        }
    }
}
