//! The file systems that the agent uses.

use crate::check::{Facts, Finding, State};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let cgroup = match &facts.cgroup {
        Ok(path) => Finding::ok(
            "cgroup2",
            format!("the socket path goes to {}", path.display()),
        ),
        Err(why) => Finding::of(
            State::Warning,
            "cgroup2",
            format!("{why}: the socket path would be off"),
            "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2",
        ),
    };
    vec![bpffs(facts), cgroup]
}

fn bpffs(facts: &Facts) -> Finding {
    const CHECK: &str = "bpffs";
    let (path, is_mounted) = &facts.bpffs;
    let path = path.display();
    match is_mounted {
        Ok(true) if facts.has_pins => Finding::ok(
            CHECK,
            format!("{path}, with the maps of an agent, which the next one adopts"),
        ),
        Ok(true) => Finding::ok(CHECK, format!("mounted at {path}")),
        Ok(false) => Finding::of(
            State::Warning,
            CHECK,
            format!("no BPF file system at {path}: Services would end with the agent"),
            "nothing in a cluster, where the init container mounts it; else `proxy-agent mount`",
        ),
        Err(why) => Finding::of(
            State::Warning,
            CHECK,
            why.as_str(),
            "mount /sys, or choose another place with --bpffs",
        ),
    }
}
