//! The socket path: the programs at sockets, for all processes below a cgroup.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{io, ptr};

use aya::Ebpf;
use aya::programs::links::FdLink;
use tracing::warn;

use super::cgroup::{CgroupError, root};
use super::socket_hooks::{
    CgroupTarget, HANDSHAKE, OBSERVERS, PIN, TRANSLATORS, load_all, pin, remove_pins,
};
use crate::config::SocketPathMode;
use crate::maps::{
    MapError, PinError, Pins, Predecessor, ProgramRejection, SocketScope, running_kernel,
    synchronize_rcu,
};

/// Sockets cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketPathError {
    /// The cookie of this network namespace is not to be had.
    #[error(
        "Linux {} cannot distinguish the host's sockets from others: it has no SO_NETNS_COOKIE (since Linux 5.14)",
        running_kernel()
    )]
    Cookie(#[source] io::Error),
    /// There is no cgroup to attach to.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The cgroup's directory cannot be opened.
    #[error("cannot open the cgroup {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The object lacks a program.
    #[error(transparent)]
    Object(#[from] MapError),
    /// A link cannot be pinned.
    #[error("cannot pin the link of {name}")]
    Pin {
        /// The program.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to load or to attach a program.
    #[error("Linux {} refused the program {name} at sockets", running_kernel())]
    Rejected {
        /// The program.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramRejection,
    },
}

impl SocketPathError {
    /// Whether another attempt may succeed: a cgroup may come, and a program of somebody else
    /// go that lets no other in. What a kernel cannot do it does not learn.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Cgroup(_) | Self::Open { .. } | Self::Pin { .. } => true,
            Self::Rejected { source, .. } => !source.is_of_load(),
            Self::Cookie(_) | Self::Object(_) => false,
        }
    }
}

/// Whose sockets are served in this `mode`, seen from the host's network namespace, in
/// which the calling thread has to be.
pub fn scope(mode: SocketPathMode) -> Result<SocketScope, SocketPathError> {
    Ok(SocketScope {
        host_netns: netns_cookie().map_err(SocketPathError::Cookie)?,
        pods: mode == SocketPathMode::On,
    })
}

/// The cookie of this thread's network namespace: no other has it until the machine
/// starts anew.
#[expect(unsafe_code, reason = "neither std nor nix knows this option")]
pub(super) fn netns_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut cookie = 0_u64;
    #[expect(clippy::cast_possible_truncation, reason = "it is 8")]
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            ptr::from_mut(&mut cookie).cast(),
            &raw mut size,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The attached programs. Dropping it detaches them, unless their links are pinned.
pub struct SocketPath {
    cgroup: PathBuf,
    /// What the names of the links' pins begin with.
    prefix: String,
    /// By the names of the hooks.
    links: BTreeMap<&'static str, FdLink>,
}

impl SocketPath {
    /// Loads the programs and attaches them to `cgroup`, or to the root of all, beside
    /// those of others: all of them, or none. They take the places of those that an agent
    /// has left behind, and what these have remembered is carried over where they have maps
    /// of their own.
    pub fn attach(
        object: &mut Ebpf,
        cgroup: Option<&Path>,
        pins: Option<&Pins>,
        predecessor: Option<&Predecessor>,
    ) -> Result<Self, SocketPathError> {
        // Without it nobody's socket is known to be the host's.
        netns_cookie().map_err(SocketPathError::Cookie)?;
        let path = cgroup.map_or_else(root, |path| Ok(path.to_owned()))?;
        let directory = File::open(&path).map_err(|source| SocketPathError::Open {
            path: path.clone(),
            source,
        })?;
        let failed = |source| SocketPathError::Open {
            path: path.clone(),
            source,
        };
        let place = CgroupTarget {
            // A cgroup's id (on machines of 64 bits).
            prefix: format!("{PIN}{}-", directory.metadata().map_err(failed)?.ino()),
            cgroup: directory,
            pins,
        };
        // Before anything changes: this is what takes time.
        let observers = load_all(object, &OBSERVERS)?;
        let translators = load_all(object, &TRANSLATORS)?;
        let mut observing = Vec::new();
        for hook in &observers {
            observing.push((hook, place.attach(object, hook)?));
        }
        let mut links = BTreeMap::new();
        for hook in &translators {
            links.insert(hook.name(), place.put(object, hook)?);
        }
        if let Some(predecessor) = predecessor {
            synchronize_rcu();
            if let Err(error) = predecessor.migrate_sockets() {
                warn!("cannot migrate socket records created during startup: {error}");
            }
        }
        for (hook, link) in observing {
            links.insert(hook.name(), place.pin(link, hook.name())?);
        }
        match attach_handshake(object, &place) {
            Ok(attached) => links.extend(attached),
            Err(error) => warn!(
                "cannot look whether endpoints answer sockets: {:#}; connections that are \
                 translated at sockets do not count as unanswered, and end no suspicion",
                anyhow::Error::from(error)
            ),
        }
        place.remove_others();
        Ok(Self {
            cgroup: path,
            prefix: place.prefix,
            links,
        })
    }

    /// Loads the programs and attaches them to nothing: whether the kernel takes those without
    /// which sockets are not served.
    ///
    /// # Errors
    ///
    /// It does not take one.
    pub fn load(object: &mut Ebpf) -> Result<(), SocketPathError> {
        load_all(object, &OBSERVERS)?;
        load_all(object, &TRANSLATORS)?;
        Ok(())
    }

    /// Pins links again whose pins were removed.
    pub(super) fn keep_pins(&mut self, pins: &Pins) -> Result<(), SocketPathError> {
        let names: Vec<_> = self.links.keys().copied().collect();
        for name in names {
            if !pins.link(&format!("{}{name}", self.prefix)).exists()
                && let Some(link) = self.links.remove(name)
            {
                let link = pin(link, pins, &self.prefix, name)?;
                self.links.insert(name, link);
            }
        }
        Ok(())
    }

    /// Detaches what an agent has left at sockets.
    pub fn detach_left(pins: &Pins) -> Result<(), PinError> {
        remove_pins(pins, |name| name.starts_with(PIN))
    }

    /// The cgroup below which sockets are served.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }
}

/// Loads and attaches the program that looks whether endpoints answer.
fn attach_handshake(
    object: &mut Ebpf,
    place: &CgroupTarget<'_>,
) -> Result<Vec<(&'static str, FdLink)>, SocketPathError> {
    let mut links = Vec::new();
    for hook in &load_all(object, &[HANDSHAKE])? {
        links.push((hook.name(), place.put(object, hook)?));
    }
    Ok(links)
}
