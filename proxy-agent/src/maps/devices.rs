//! What the programs know of devices, and XDP's own part of the object.

use aya::Ebpf;
use aya::programs::Xdp;
use proxy_ebpf::layout::EdgeDevice;

use super::MapError;
use super::elements::Keyed as _;
use super::handles::Hash;
use super::programs::rejected;

/// The program's name in the object.
const PROGRAM: &str = "xdp_outside";

/// `EDGE_DEVICES`: what programs know of devices.
pub struct EdgeDevices(pub(super) Hash<u32, EdgeDevice>);

impl EdgeDevices {
    /// Sets what is known of the device with this index; `None` for nothing.
    pub fn set(&mut self, device: u32, known: Option<EdgeDevice>) -> Result<(), MapError> {
        match known {
            Some(known) => self.0.insert(device, known),
            None => self.0.remove(device),
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
