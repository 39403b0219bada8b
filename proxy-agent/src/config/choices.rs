//! Settings that are one of a few names.

use crate::choice::choice;

choice! {
    /// How programs are attached to devices.
    pub enum AttachMode {
        /// tcx where the kernel has it (Linux 6.6), else clsact filters.
        Auto = "auto",
        /// Only tcx.
        Tcx = "tcx",
        /// Only clsact filters, for tools that do not know tcx.
        Clsact = "clsact",
    }
}

choice! {
    /// On which uplinks XDP is used, where their drivers have it.
    pub enum XdpChoice {
        /// Hardware, or what a hypervisor shows as such, and bonds of it.
        Auto = "auto",
        /// All. Breaks packets whose checksum hardware is yet to complete, such as those of
        /// containers and virtual machines of the same host.
        Always = "always",
        /// None.
        Never = "never",
    }
}

choice! {
    /// Whose sockets are served.
    pub enum SocketPathMode {
        /// Everybody's: a Service's address is translated once, when a process connects.
        On = "on",
        /// The host's own. Pods' packets are translated, one by one.
        HostOnly = "host-only",
        /// Nobody's. The host's own processes reach no Service then.
        Off = "off",
    }
}
