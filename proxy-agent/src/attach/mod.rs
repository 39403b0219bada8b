//! Where the programs run: on every edge device of the node, as devices come and
//! go.
//!
//! [`watch`](watch::DeviceWatch) knows the devices, [`device`] decides what each
//! one is, and [`Attacher`] puts the programs there: those of TC on all of them, and
//! XDP in front of these on uplinks.

mod attacher;
mod cleanup;
pub mod device;
mod link;
mod watch;
mod xdp;
mod xdp_features;

pub use attacher::{AttachError, Attacher, Outcome};
pub use cleanup::{Cleaned, clean_up};
pub use link::AttachWay;
pub use watch::{DeviceWatch, WatchError};
pub use xdp::{Uplinks, XdpChoice, XdpError};
