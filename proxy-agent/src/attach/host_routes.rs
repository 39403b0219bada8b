//! How this host routes: by which device what it sends to an address leaves, and whether source
//! addresses decide as well.

use std::io;
use std::net::IpAddr;

use futures::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::{Error, Handle, IpVersion};
use tokio::runtime::{self, Runtime};

/// By which devices packets leave, for who asks now and then.
pub struct OutputDevices {
    runtime: Runtime,
    handle: Handle,
}

impl OutputDevices {
    /// Opens a socket in this thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (connection, handle, _) = {
            let _inside = runtime.enter();
            rtnetlink::new_connection()?
        };
        runtime.spawn(connection);
        Ok(Self { runtime, handle })
    }

    /// The index of the device by which packets leave for an address, if it is known; rules for
    /// source addresses are not looked at.
    pub fn towards(&self, to: IpAddr) -> Option<u32> {
        let asked = output_device(&self.handle, to);
        self.runtime.block_on(asked).ok().flatten()
    }
}

/// The index of the device; `None` where the kernel has no route, or the address is this machine's.
pub(super) async fn output_device(handle: &Handle, to: IpAddr) -> Result<Option<u32>, Error> {
    let mut wanted = RouteMessage::default();
    let (family, whole) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    wanted.header.address_family = family;
    wanted.header.destination_prefix_length = whole;
    wanted
        .attributes
        .push(RouteAttribute::Destination(to.into()));
    let mut routes = Box::pin(handle.route().get(wanted).execute());
    match routes.try_next().await {
        Ok(route) => Ok(route.as_ref().and_then(device_of)),
        // Such as ENETUNREACH.
        Err(Error::NetlinkError(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there are rules for source addresses, such as `ip rule add from 10.0.1.5 lookup 2`.
pub(super) async fn has_source_rules(handle: &Handle, version: IpVersion) -> Result<bool, Error> {
    let mut rules = Box::pin(handle.rule().get(version).execute());
    let mut is_found = false;
    // All are read, for they are one answer.
    while let Some(rule) = rules.try_next().await? {
        is_found |= rule.header.src_len != 0;
    }
    Ok(is_found)
}

fn device_of(route: &RouteMessage) -> Option<u32> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}
