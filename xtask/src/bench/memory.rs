//! How much memory a process has.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Memory of a process in bytes, by what it is for (proc(5), /proc/PID/status).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// All that is resident.
    pub(super) resident: u64,
    /// The most that ever was.
    pub(super) peak: u64,
    /// Its own: heap and stacks.
    pub(super) anonymous: u64,
    /// Pages of files, the program's own above all, and of maps that are shared with
    /// the kernel.
    pub(super) file: u64,
    /// Shared memory that is no file.
    pub(super) shared: u64,
}

impl Memory {
    /// The memory of a process at this moment.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let path = Path::new("/proc").join(pid.to_string()).join("status");
        let text = fs::read_to_string(&path);
        let text = text.with_context(|| format!("{}: read", path.display()))?;
        Self::parse(&text).with_context(|| format!("{}: a line is missing", path.display()))
    }

    /// Lets `peak` begin anew (`clear_refs` of proc(5)).
    pub(super) fn reset_peak(pid: u32) -> Result<()> {
        let path = Path::new("/proc").join(pid.to_string()).join("clear_refs");
        fs::write(&path, "5").with_context(|| format!("{}: write", path.display()))
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kibibytes * 1024)
        };
        Some(Self {
            resident: bytes("VmRSS:")?,
            peak: bytes("VmHWM:")?,
            anonymous: bytes("RssAnon:")?,
            file: bytes("RssFile:")?,
            shared: bytes("RssShmem:")?,
        })
    }
}

/// An amount of memory for people.
pub(super) fn in_mebibytes(bytes: u64) -> String {
    const MEBIBYTE: u64 = 1024 * 1024;
    let tenths = bytes * 10 / MEBIBYTE;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_proc_are_read() {
        let status = "Name:\tx\nVmHWM:\t      12 kB\nVmRSS:\t      10 kB\nRssAnon:\t       7 kB\n\
                      RssFile:\t       2 kB\nRssShmem:\t       1 kB\n";
        let memory = Memory::parse(status).unwrap();
        assert_eq!((memory.resident, memory.peak), (10 * 1024, 12 * 1024));
        assert_eq!(
            memory.anonymous + memory.file + memory.shared,
            memory.resident
        );
        assert_eq!(Memory::parse("VmRSS:\t10 kB\n"), None);
    }
}
