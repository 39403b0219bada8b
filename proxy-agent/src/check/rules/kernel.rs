//! The kernel, and what this process may ask of it.

use crate::attach::Features;
use crate::check::facts::Known;
use crate::check::{Facts, Finding, State};

/// Those that the agent needs, by their bits (`linux/capability.h`).
const NEEDED: [(u32, &str); 3] = [(12, "NET_ADMIN"), (38, "PERFMON"), (39, "BPF")];

const NEWER: &str = "a newer kernel; docs/KERNELS.md says what was run on which";

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let lacking = lacking(facts);
    let Facts {
        features: Features { release, .. },
        architecture,
        ..
    } = facts;
    let mut findings = vec![
        Finding::ok("kernel", format!("Linux {release} on {architecture}")),
        capabilities(facts, &lacking),
    ];
    findings.extend(programs(facts).map(|programs| programs.finding(&lacking)));
    findings.extend(features(facts));
    findings
}

/// Programs that the kernel has been asked to load.
struct Programs<'a> {
    check: &'static str,
    name: &'static str,
    loaded: &'a Known<()>,
    /// What it means where it does not.
    state: State,
    otherwise: &'static str,
    advice: String,
}

fn programs(facts: &Facts) -> [Programs<'_>; 3] {
    [
        Programs {
            check: "programs",
            name: "the programs of devices",
            loaded: &facts.programs,
            state: State::Error,
            otherwise: "there is no serving without them",
            advice: format!("Linux 5.15 or newer on x86-64, 6.0 or newer on arm64: {NEWER}"),
        },
        Programs {
            check: "xdp",
            name: "the program of XDP",
            loaded: &facts.xdp_program,
            state: State::Warning,
            otherwise: "TC serves uplinks alone",
            advice: NEWER.to_owned(),
        },
        Programs {
            check: "socket-path",
            name: "the programs of the socket path",
            loaded: &facts.socket_programs,
            state: State::Warning,
            otherwise: "each packet is translated",
            advice: format!("`socketPath: off`, or {NEWER}"),
        },
    ]
}

impl Programs<'_> {
    fn finding(self, lacking: &[&str]) -> Finding {
        let Self {
            check,
            name,
            loaded,
            state,
            otherwise,
            advice,
        } = self;
        match loaded {
            Ok(()) => Finding::ok(check, format!("the kernel loads {name}")),
            // Without them the kernel's answer says nothing of the kernel.
            Err(_) if !lacking.is_empty() => {
                let found = format!("{name} cannot be tried without capabilities");
                Finding::of(State::Unknown, check, found, "run this with them")
            }
            Err(why) => {
                let found = format!("the kernel refuses {name}, {otherwise}: {why}");
                Finding::of(state, check, found, advice)
            }
        }
    }
}

/// The names of the capabilities that are missing.
fn lacking(facts: &Facts) -> Vec<&'static str> {
    let bits = *facts.capabilities.as_ref().unwrap_or(&0);
    let lacking = NEEDED.iter().filter(|(bit, _)| bits & (1 << bit) == 0);
    lacking.map(|(_, name)| *name).collect()
}

fn capabilities(facts: &Facts, lacking: &[&str]) -> Finding {
    const CHECK: &str = "capabilities";
    if let Err(why) = &facts.capabilities {
        return Finding::of(State::Unknown, CHECK, why.as_str(), "mount /proc");
    }
    if lacking.is_empty() {
        return Finding::ok(CHECK, "this process has BPF, NET_ADMIN and PERFMON");
    }
    Finding::of(
        State::Error,
        CHECK,
        format!("this process lacks {}", lacking.join(", ")),
        "root, or the securityContext of manifests/base/daemonset.yaml",
    )
}

/// What the agent uses where the kernel has it.
fn features(facts: &Facts) -> [Finding; 5] {
    let has = |check, is_there, with: &str, without: &str| {
        let advice = "nothing has to be done; a newer kernel has it";
        if is_there {
            Finding::ok(check, with)
        } else {
            Finding::of(State::Warning, check, without, advice)
        }
    };
    let features = &facts.features;
    let interpreted = facts
        .sysctls
        .get("net.core.bpf_jit_enable")
        .is_some_and(|it| it == "0");
    [
        has(
            "tcx",
            features.tcx,
            "programs are attached by tcx",
            "no tcx (Linux 6.6): programs are attached by clsact filters, which others may displace",
        ),
        has(
            "xdp-redirect",
            features.xdp_redirect_targets,
            "devices report if XDP may redirect to them",
            "devices do not report if XDP may redirect to them (Linux 6.3): XDP sends by the device \
             of the packet only",
        ),
        has(
            "netns-cookie",
            features.netns_cookie,
            "the host's sockets can be told from Pods'",
            "no SO_NETNS_COOKIE (Linux 5.14): the socket path is off",
        ),
        has(
            "socket-errno",
            features.set_retval,
            "a refused connect fails with its own error",
            "no bpf_set_retval (Linux 6.1): a refused connect fails with EPERM",
        ),
        if interpreted {
            Finding::of(
                State::Warning,
                "jit",
                "programs are interpreted, which costs each packet time",
                "sysctl -w net.core.bpf_jit_enable=1",
            )
        } else {
            Finding::ok("jit", "programs are compiled")
        },
    ]
}
