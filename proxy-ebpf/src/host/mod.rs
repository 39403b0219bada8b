//! Packets and maps in memory, to run the pipeline outside the kernel.

mod frame;
mod memory;

pub use frame::Frame;
pub use memory::{Memory, Shared};
