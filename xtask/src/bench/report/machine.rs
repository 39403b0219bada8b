//! The machine that was measured on.

use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// What a reader needs to compare figures with those of another machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Machine {
    /// `model name` of /proc/cpuinfo.
    pub(in super::super) cpu: String,
    pub(in super::super) cores: usize,
    pub(in super::super) memory_bytes: u64,
    /// The kernel's release.
    pub(in super::super) kernel: String,
    /// The real-time priority that the bench was given (`chrt -f`), and with it all that it
    /// starts; 0 for none.
    pub(in super::super) priority: u32,
    /// The load average over a minute, before and after.
    pub(in super::super) load: [f64; 2],
}

impl Machine {
    /// This one, now.
    pub(in super::super) fn this() -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let memory = read("/proc/meminfo")?;
        let kibibytes = value(&memory, "MemTotal").context("/proc/meminfo: no MemTotal")?;
        let kibibytes = kibibytes.trim_end_matches(" kB").parse::<u64>()?;
        let load = load()?;
        Ok(Self {
            // Processors for arm64 have no name there.
            cpu: value(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            cores: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            memory_bytes: kibibytes * 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            priority: priority(&read("/proc/self/stat")?).context("/proc/self/stat")?,
            load: [load, load],
        })
    }
}

/// The load average over a minute.
pub(in super::super) fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().context("/proc/loadavg")
}

/// `rt_priority`, field 40 of proc(5)'s stat; the name in field 2 may have spaces.
fn priority(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(") ")?;
    behind_name.split(' ').nth(40 - 3)?.parse().ok()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{path}: read"))
}

/// What is behind `name:` in the first line that begins so.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_proc_are_read() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\nmodel name\t: other\n";
        assert_eq!(value(text, "model name"), Some("AMD EPYC"));
        assert_eq!(value(text, "bogomips"), None);
        assert!(Machine::this().unwrap().cores > 0);
        let fields: Vec<_> = (3..=52).map(|it: u32| it.to_string()).collect();
        let stat = format!("1 (a) b) {}", fields.join(" "));
        assert_eq!(priority(&stat), Some(40));
    }
}
