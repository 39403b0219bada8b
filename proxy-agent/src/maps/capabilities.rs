//! What this process may do (capabilities(7)).

use std::fs;

/// `CAP_DAC_OVERRIDE`, `CAP_SYS_ADMIN` and `CAP_BPF` of `linux/capability.h`.
const DAC_OVERRIDE: u32 = 1;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

/// Which capability a process lacks that is not allowed to read maps: to use bpf(2), or else to
/// open files of others.
pub(super) fn missing_for_maps() -> &'static str {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(&status)
}

fn missing_in(status: &str) -> &'static str {
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let has = |bit: u32| effective.is_some_and(|bits| bits >> bit & 1 == 1);
    if has(BPF) || has(SYS_ADMIN) {
        if has(DAC_OVERRIDE) {
            "a security module's permission"
        } else {
            "CAP_DAC_OVERRIDE"
        }
    } else {
        "CAP_BPF"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_capability_that_is_missing_is_named() {
        let missing = |bits: &str| missing_in(&format!("Name:\tx\nCapEff:\t{bits}\n"));
        assert_eq!(missing("0000000000000000"), "CAP_BPF");
        assert_eq!(missing("0000008000000000"), "CAP_DAC_OVERRIDE");
        assert_eq!(
            missing("0000000000200002"),
            "a security module's permission"
        );
    }
}
