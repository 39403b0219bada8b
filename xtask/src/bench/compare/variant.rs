//! What serves the Services of a lab.

/// One of the ways that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Variant {
    /// Nothing does, and nothing tracks connections: the limit.
    None,
    /// Rules as kube-proxy writes them in mode iptables.
    Iptables,
    /// Rules as kube-proxy writes them in mode nftables.
    Nftables,
    /// The agent, packet by packet, by its programs at the devices' queueing.
    Tc,
    /// The same, and on uplinks before the kernel's stack.
    Xdp,
    /// The agent, when a process connects.
    Socket,
}

impl Variant {
    /// As reports call it.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Self::None => "no proxy",
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Tc => "TC",
            Self::Xdp => "XDP",
            Self::Socket => "socket",
        }
    }

    /// The agent's options; none for what is not the agent.
    pub(in super::super) fn options(self) -> Option<[&'static str; 4]> {
        let [socket, xdp] = match self {
            Self::None | Self::Iptables | Self::Nftables => return None,
            Self::Tc => ["off", "never"],
            Self::Xdp => ["off", "always"],
            Self::Socket => ["on", "never"],
        };
        Some(["--socket-path", socket, "--xdp", xdp])
    }
}
