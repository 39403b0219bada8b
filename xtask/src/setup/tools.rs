//! The programs that the lab and its tests call, and the compilers of C.

use crate::{command, terminal};

/// A program, and Debian's package that has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    program: &'static str,
    pub(super) package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

const TOOLS: [Tool; 16] = [
    // rustc links by the first, the TLS library is built by it, and libFuzzer by the
    // second.
    tool("cc", "gcc"),
    tool("c++", "g++"),
    tool("setpriv", "util-linux"),
    tool("ip", "iproute2"),
    tool("nsenter", "util-linux"),
    tool("curl", "curl"),
    tool("dig", "bind9-dnsutils"),
    // Without the service that the package dnsmasq would start.
    tool("dnsmasq", "dnsmasq-base"),
    tool("python3", "python3"),
    // A client that is written in Go.
    tool("hey", "hey"),
    tool("iperf3", "iperf3"),
    tool("nc", "netcat-openbsd"),
    tool("ethtool", "ethtool"),
    tool("tracepath", "iputils-tracepath"),
    tool("nft", "nftables"),
    tool("bpftool", "bpftool"),
];

/// The tools that are not there.
pub(super) fn missing() -> Vec<&'static Tool> {
    let absent = |tool: &&Tool| command::find(tool.program).is_none();
    TOOLS.iter().filter(absent).collect()
}

/// Prints which tools were there and which have been installed.
pub(super) fn report(installed: &[&Tool]) {
    let (new, old): (Vec<_>, Vec<_>) = TOOLS.iter().partition(|tool| installed.contains(tool));
    for (state, tools) in [("ok", old), ("installed", new)] {
        if !tools.is_empty() {
            let programs: Vec<_> = tools.iter().map(|tool| tool.program).collect();
            terminal::item(state, &programs.join(", "));
        }
    }
}
