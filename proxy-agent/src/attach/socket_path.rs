//! The socket path: the programs at sockets, for all processes below a cgroup.

use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::{fmt, io, ptr};

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError};
use aya::programs::{CgroupAttachMode, Program, ProgramError};
use tracing::warn;

use super::cgroup::{CgroupError, root};
use crate::maps::{MapError, PinError, Pins, SocketScope};

/// Whose sockets are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SocketPathMode {
    /// Everybody's.
    #[default]
    On,
    /// The host's own. Pods' packets are translated, one by one.
    HostOnly,
    /// Nobody's: packets are translated, and the host's processes reach no Service.
    Off,
}

impl SocketPathMode {
    /// Its name, as it is set.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::HostOnly => "host-only",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for SocketPathMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Sockets cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketPathError {
    /// The cookie of this network namespace is not to be had.
    #[error("cannot tell the host's sockets from others: no SO_NETNS_COOKIE (Linux 5.14)")]
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
    #[error("the kernel refused {name} (has the process CAP_BPF and CAP_NET_ADMIN?)")]
    Refused {
        /// The program.
        name: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
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
fn netns_cookie() -> io::Result<u64> {
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

/// The programs, in the order in which they are attached: what an application hears is
/// right before what it sends is changed. Where one cannot be loaded, the second of a
/// pair takes its place, which older kernels have all for.
const PROGRAMS: [(&str, Option<&str>); 11] = [
    ("getpeername4", None),
    ("getpeername6", None),
    ("recvmsg4", None),
    ("recvmsg6", None),
    ("release", None),
    ("bind4", Some("bind4_eperm")),
    ("bind6", Some("bind6_eperm")),
    ("sendmsg4", Some("sendmsg4_eperm")),
    ("sendmsg6", Some("sendmsg6_eperm")),
    ("connect4", Some("connect4_eperm")),
    ("connect6", Some("connect6_eperm")),
];

/// Names of pins of links to a cgroup begin with this; those to devices with a number.
const PIN: &str = "socket-";

/// The attached programs. Dropping it detaches them, unless their links are pinned.
pub struct SocketPath {
    cgroup: PathBuf,
    /// Held for their effect.
    _links: Vec<FdLink>,
}

impl SocketPath {
    /// Loads the programs and attaches them to `cgroup`, or to the root of all, beside
    /// those of others: all of them, or none. They take the places of those that an agent
    /// has left behind.
    pub fn attach(
        object: &mut Ebpf,
        cgroup: Option<&Path>,
        pins: Option<&Pins>,
    ) -> Result<Self, SocketPathError> {
        let path = cgroup.map_or_else(root, |path| Ok(path.to_owned()))?;
        let directory = File::open(&path).map_err(|source| SocketPathError::Open {
            path: path.clone(),
            source,
        })?;
        let mut links = Vec::new();
        for (name, second) in PROGRAMS {
            let loaded = loaded(object, name, second)?;
            let refused = |source| SocketPathError::Refused {
                name: loaded,
                source,
            };
            let link = attach(program(object, loaded)?, &directory).map_err(refused)?;
            links.push((name, link));
        }
        let links = links
            .into_iter()
            .map(|(name, link)| match pins {
                Some(pins) => pin(link, name, pins),
                None => Ok(link),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            cgroup: path,
            _links: links,
        })
    }

    /// Detaches what an agent has left at sockets.
    pub fn detach_left(pins: &Pins) -> Result<(), PinError> {
        for name in pins.links()? {
            if name.starts_with(PIN)
                && let Err(error) = fs::remove_file(pins.link(&name))
            {
                warn!(
                    pin = name,
                    "cannot remove the pin of a program at sockets: {error}"
                );
            }
        }
        Ok(())
    }

    /// The cgroup below which sockets are served.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, MapError> {
    object.program_mut(name).ok_or(MapError::Missing(name))
}

/// Loads a program, or the second one; the name of that which was loaded.
fn loaded(
    object: &mut Ebpf,
    name: &'static str,
    second: Option<&'static str>,
) -> Result<&'static str, SocketPathError> {
    let refused = |name| move |source| SocketPathError::Refused { name, source };
    match (load(program(object, name)?), second) {
        (Ok(()), _) => Ok(name),
        (Err(_), Some(second)) => load(program(object, second)?)
            .map(|()| second)
            .map_err(refused(second)),
        (Err(error), None) => Err(refused(name)(error)),
    }
}

fn load(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn attach(program: &mut Program, cgroup: &File) -> Result<FdLink, ProgramError> {
    // A link without flags always stands beside others (Linux 5.7).
    let mode = CgroupAttachMode::Single;
    let link = match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    link.map_err(|error: LinkError| ProgramError::IOError(io::Error::other(error)))
}

/// Pins a link in the place of the one that was there. For a moment both programs run;
/// the second one finds nothing left to do.
fn pin(link: FdLink, name: &'static str, pins: &Pins) -> Result<FdLink, SocketPathError> {
    let (new, path) = (
        pins.link(&format!("{PIN}{name}-new")),
        pins.link(&format!("{PIN}{name}")),
    );
    let failed = |source| SocketPathError::Pin { name, source };
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let pinned = link
        .pin(&new)
        .map_err(|error| failed(io::Error::other(error)))?;
    fs::rename(&new, &path).map_err(failed)?;
    Ok(pinned.into())
}
