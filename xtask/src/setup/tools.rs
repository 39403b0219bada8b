//! The programs that the lab and its tests call, and the compilers of C.

use crate::{command, terminal};

/// A program, and Debian's package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    program: &'static str,
    pub(super) package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

pub(super) const TOOLS: &[Tool] = &[
    // rustc links by the first, the TLS library is built by it, and libFuzzer by the
    // second.
    tool("cc", "gcc"),
    tool("c++", "g++"),
    // Takes what no kernel reads out of the eBPF object.
    tool("llvm-strip", "llvm"),
    tool("setpriv", "util-linux"),
    tool("ip", "iproute2"),
    tool("nsenter", "util-linux"),
    tool("busybox", "busybox-static"),
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
    tool("ping", "iputils-ping"),
    tool("tracepath", "iputils-tracepath"),
    tool("nft", "nftables"),
    tool("iptables-restore", "iptables"),
    tool("bpftool", "bpftool"),
    tool("strace", "strace"),
];

/// What tests do without where the distribution does not have it, as Debian 12 no kustomize.
pub(super) const WHERE_PACKAGED: &[Tool] = &[
    tool("kustomize", "kustomize"),
    // The package also starts a server, at port 9090 (`systemctl disable --now prometheus`).
    tool("promtool", "prometheus"),
];

/// For files that are not Rust's.
pub(super) const FOR_LINT: &[Tool] = &[
    // Which files are the tree's.
    tool("git", "git"),
    tool("shellcheck", "shellcheck"),
    tool("yamllint", "yamllint"),
];

/// For virtual machines with other kernels.
pub(super) const FOR_GUESTS: &[Tool] = &[
    tool("qemu-system-x86_64", "qemu-system-x86"),
    tool("modprobe", "kmod"),
    tool("cpio", "cpio"),
    tool("xz", "xz-utils"),
];

/// For another processor.
pub(super) const FOR_ARM64: &[Tool] = &[
    tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    // The C library has no program of its own.
    tool("aarch64-linux-gnu-gcc", "libc6-dev-arm64-cross"),
    tool("qemu-system-aarch64", "qemu-system-arm"),
];

/// The tools that are not there.
pub(super) fn missing(tools: &[Tool]) -> Vec<Tool> {
    let absent = |tool: &&Tool| command::find(tool.program).is_none();
    tools.iter().filter(absent).copied().collect()
}

/// Prints which tools were there and which have been installed.
pub(super) fn report(tools: &[Tool], installed: &[Tool]) {
    let (new, old): (Vec<Tool>, Vec<Tool>) = tools
        .iter()
        .copied()
        .partition(|tool| installed.contains(tool));
    for (state, tools) in [("ok", old), ("installed", new)] {
        if !tools.is_empty() {
            let programs: Vec<_> = tools.iter().map(|tool| tool.program).collect();
            terminal::item(state, &programs.join(", "));
        }
    }
}
