//! How much memory the machine has.

use std::{fs, io};

/// The machine's memory in bytes: `MemTotal` of `proc_meminfo(5)`.
///
/// # Errors
///
/// It cannot be read.
pub fn total_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    parse(&text).ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))
}

fn parse(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|it| it.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_in_kibibytes() {
        let text = "MemTotal:       24624856 kB\nMemFree:        18001236 kB\n";
        assert_eq!(parse(text), Some(24_624_856 * 1024));
        assert_eq!(parse("MemFree: 1 kB\n"), None);
    }
}
