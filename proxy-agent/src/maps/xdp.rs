//! XDP's own part of the object.

use aya::Ebpf;
use aya::programs::Xdp;
use proxy_ebpf::layout::XdpDeviceFlags;

use super::MapError;
use super::elements::Keyed as _;
use super::handles::Hash;
use super::programs::rejected;

/// The program's name in the object.
const PROGRAM: &str = "xdp_outside";

/// `XDP_DEVICES`: what XDP can do with which device.
pub struct XdpDevices(pub(super) Hash<u32, XdpDeviceFlags>);

impl XdpDevices {
    /// Sets what XDP can do with the device of this index.
    pub fn set(&mut self, device: u32, ways: XdpDeviceFlags) -> Result<(), MapError> {
        if ways == 0 {
            self.0.remove(device)
        } else {
            self.0.insert(device, ways)
        }
    }
}

/// XDP's program, which is not loaded before it is used: an old kernel may refuse it,
/// and TC does without.
pub(crate) fn xdp(object: &mut Ebpf) -> Result<&mut Xdp, MapError> {
    object
        .program_mut(PROGRAM)
        .ok_or(MapError::Missing(PROGRAM))?
        .try_into()
        .map_err(|source| rejected(PROGRAM, source))
}
