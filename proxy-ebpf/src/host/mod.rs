//! Packets and maps in memory, to run the pipeline outside the kernel.

mod frame;
mod hook;
mod memory;
mod shared;

pub use frame::Frame;
pub use hook::{Action, Hook, Link, run, run_too_big, run_too_big_for_tunnel};
pub use memory::Memory;
pub use shared::{Call, Shared};
