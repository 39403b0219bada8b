//! Virtual machines with other kernels, in which tests run.
//!
//! Debian's packages only: a kernel's package is fetched from its suite and unpacked, never
//! installed. The guest's root is this machine's, by virtiofs and read-only, below an overlay
//! in memory: it has this machine's programs, and what was compiled here, at the same paths.

mod accelerator;
mod guard;
mod initrd;
mod kernel;
mod machine;
mod root;

use anyhow::Result;

pub(crate) use kernel::Kernel;
pub(crate) use machine::Machine;

use accelerator::Accelerator;

use crate::arch::Arch;

/// Machines with these kernels, ready to boot.
pub(crate) fn prepare(arch: Arch, kernels: &[Kernel]) -> Result<Vec<Machine>> {
    let mut machines = Vec::new();
    for kernel in kernels {
        let files = kernel.fetch(arch)?;
        machines.push((*kernel, files));
    }
    let Some((_, first)) = machines.first() else {
        return Ok(Vec::new());
    };
    let accelerator = Accelerator::find(arch, &first.image)?;
    machines
        .into_iter()
        .map(|(kernel, files)| Machine::new(arch, kernel, files, accelerator))
        .collect()
}
