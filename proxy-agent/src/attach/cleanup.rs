//! Taking away what an agent has left on devices.
//!
//! tcx links end with the process that holds them. Filters and their qdisc stay.

use aya::programs::TcAttachType;
use aya::programs::tc;
use futures::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};

use super::device::Device;
use super::watch::{DeviceWatch, DeviceWatchError};
use crate::maps::ProgramName;

/// A device from which something was removed.
#[derive(Debug, PartialEq, Eq)]
pub struct CleanedDevice {
    /// Its name.
    pub device: String,
    /// How many filters.
    pub filters: usize,
    /// Whether the clsact qdisc is gone as well.
    pub qdisc: bool,
}

/// Removes the agent's filters from all devices, and a clsact qdisc where these were
/// all that was in it: an empty one does nothing. An empty one that had no filter of
/// the agent's may be somebody's and stays. No agent may run.
pub async fn clean_up() -> Result<Vec<CleanedDevice>, DeviceWatchError> {
    let watch = DeviceWatch::open()?;
    let mut cleaned = Vec::new();
    for device in watch.list().await? {
        let filters = remove_filters(&device.name);
        if filters == 0 {
            continue;
        }
        let handle = watch.handle();
        let qdisc = is_empty(handle, &device).await?;
        if qdisc {
            remove_clsact(handle, &device).await?;
        }
        cleaned.push(CleanedDevice {
            device: device.name,
            filters,
            qdisc,
        });
    }
    Ok(cleaned)
}

/// Removes the filters that agents have left on a device; returns how many.
pub(super) fn remove_filters(device: &str) -> usize {
    let places = ProgramName::ALL
        .into_iter()
        .flat_map(|name| [TcAttachType::Ingress, TcAttachType::Egress].map(|to| (name, to)));
    places
        // Mostly there is none, or not even a qdisc.
        .filter(|(name, to)| tc::qdisc_detach_program(device, *to, name.as_str()).is_ok())
        .count()
}

/// Whether the device's clsact qdisc has no filter in either direction.
async fn is_empty(handle: &Handle, device: &Device) -> Result<bool, DeviceWatchError> {
    let mut filters = handle.traffic_filter(index(device));
    for request in [filters.get().ingress(), filters.get().egress()] {
        let found: Vec<TcMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(DeviceWatchError::List)?;
        if !found.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn remove_clsact(handle: &Handle, device: &Device) -> Result<(), DeviceWatchError> {
    let mut request = handle.qdisc().del(index(device));
    request.message_mut().header.parent = TcHandle::CLSACT;
    request.execute().await.map_err(DeviceWatchError::Qdisc)
}

/// The device's index as rtnetlink's requests about queues have it.
fn index(device: &Device) -> i32 {
    device.index.cast_signed()
}
