//! Virtual machines with other kernels, in which tests run.
//!
//! Debian's packages only: a kernel's package is fetched from its suite and unpacked, never
//! installed. The guest's root is this machine's, by virtiofs and read-only, below an overlay
//! in memory: it has this machine's programs, and what was compiled here, at the same paths.

mod accelerator;
mod apt;
mod initrd;
mod kernel;
mod machine;

use anyhow::Result;

pub(crate) use kernel::Kernel;
pub(crate) use machine::Machine;

use accelerator::Accelerator;

/// Machines with these kernels, ready to boot.
pub(crate) fn prepare(kernels: &[Kernel]) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for kernel in kernels {
        let files = kernel.fetch()?;
        machines.push((*kernel, files));
    }
    let Some((_, first)) = machines.first() else {
        return Ok(Vec::new());
    };
    let accelerator = Accelerator::find(&first.image)?;
    machines
        .into_iter()
        .map(|(kernel, files)| Machine::new(kernel, files, accelerator))
        .collect()
}
