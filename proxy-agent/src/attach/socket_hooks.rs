//! Programs at a cgroup: loaded, attached, in the place of those that an agent has left, and
//! pinned.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::{CgroupAttachMode, Program, ProgramError};
use tracing::warn;

use super::socket_path::SocketPathError;
use crate::maps::{MapError, PinError, Pins, replace};

/// A program, and the one that takes its place where the kernel refuses it.
type ProgramPair = (&'static str, Option<&'static str>);

/// The reverse NAT hooks. They are attached before the forward hooks and detached after them,
/// so that an application always gets answers from the address that it used.
pub(super) const OBSERVERS: [ProgramPair; 5] = [
    ("getpeername4", None),
    ("getpeername6", None),
    ("recvmsg4", None),
    ("recvmsg6", None),
    ("release", None),
];

/// The others. Where one cannot be loaded, the second of a pair takes its place, which
/// older kernels have all for.
pub(super) const TRANSLATORS: [ProgramPair; 6] = [
    ("bind4", Some("bind4_eperm")),
    ("bind6", Some("bind6_eperm")),
    ("sendmsg4", Some("sendmsg4_eperm")),
    ("sendmsg6", Some("sendmsg6_eperm")),
    ("connect4", Some("connect4_eperm")),
    ("connect6", Some("connect6_eperm")),
];

/// Looks whether endpoints answer. Where it cannot be had, the others do without.
pub(super) const HANDSHAKE: ProgramPair = ("handshake", None);

/// Names of pins of links to a cgroup begin with this, and go on with the cgroup's id; those
/// of links to devices begin with a number.
pub(super) const PIN: &str = "socket-";

/// Removes the pins of programs at sockets that have such a name.
pub(super) fn remove_pins(pins: &Pins, is_meant: impl Fn(&str) -> bool) -> Result<(), PinError> {
    for name in pins.links()?.into_iter().filter(|name| is_meant(name)) {
        if let Err(error) = fs::remove_file(pins.link(&name)) {
            warn!(
                pin = name,
                "cannot remove the pin of a program at sockets: {error}"
            );
        }
    }
    Ok(())
}

/// A program that is loaded.
pub(super) struct SocketProgram {
    /// The name under which its link is pinned.
    name: &'static str,
    /// Its own; another one where this kernel takes only the second of a pair.
    program: &'static str,
}

impl SocketProgram {
    /// The name of its hook.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    fn rejected(&self, source: ProgramError) -> SocketPathError {
        SocketPathError::Rejected {
            name: self.program,
            source: source.into(),
        }
    }
}

/// Where programs are attached, and their links are pinned.
pub(super) struct CgroupTarget<'a> {
    pub(super) cgroup: File,
    /// What the names of pins of links to this cgroup begin with.
    pub(super) prefix: String,
    pub(super) pins: Option<&'a Pins>,
}

impl CgroupTarget<'_> {
    pub(super) fn attach(
        &self,
        object: &mut Ebpf,
        hook: &SocketProgram,
    ) -> Result<FdLink, SocketPathError> {
        let program = program(object, hook.program)?;
        attach(program, &self.cgroup).map_err(|source| hook.rejected(source))
    }

    /// Attaches a program; one that an agent has left is replaced in one step. Two that
    /// change destinations must not both see a call: the second would take the endpoint
    /// for what the process has named.
    pub(super) fn put(
        &self,
        object: &mut Ebpf,
        hook: &SocketProgram,
    ) -> Result<FdLink, SocketPathError> {
        if let Some(pins) = self.pins {
            let path = pins.link(&format!("{}{}", self.prefix, hook.name));
            let program = program(object, hook.program)?;
            let program = program.fd().map_err(|source| hook.rejected(source))?;
            if replace(&path, program.as_fd()).is_ok()
                && let Ok(link) = PinnedLink::from_pin(&path)
            {
                return Ok(link.into());
            }
        }
        let link = self.attach(object, hook)?;
        self.pin(link, hook.name)
    }

    /// Pins a link in the place of the one that was there, if links are pinned. For a
    /// moment both programs run.
    pub(super) fn pin(&self, link: FdLink, name: &'static str) -> Result<FdLink, SocketPathError> {
        match self.pins {
            Some(pins) => pin(link, pins, &self.prefix, name),
            None => Ok(link),
        }
    }

    /// Detaches what an agent has left at other cgroups.
    pub(super) fn remove_others(&self) {
        let is_other = |name: &str| name.starts_with(PIN) && !name.starts_with(&self.prefix);
        if let Some(Err(error)) = self.pins.map(|pins| remove_pins(pins, is_other)) {
            warn!("{error}");
        }
    }
}

/// Pins the link of a hook in the place of the one that was there.
pub(super) fn pin(
    link: FdLink,
    pins: &Pins,
    prefix: &str,
    name: &'static str,
) -> Result<FdLink, SocketPathError> {
    let path = pins.link(&format!("{prefix}{name}"));
    let new = pins.link(&format!("{prefix}{name}-new"));
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

pub(super) fn load_all(
    object: &mut Ebpf,
    programs: &[ProgramPair],
) -> Result<Vec<SocketProgram>, SocketPathError> {
    let loaded = programs.iter().map(|(name, second)| {
        let program = loaded(object, name, *second)?;
        Ok(SocketProgram { name, program })
    });
    loaded.collect()
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
    let rejected = |name| {
        move |source: ProgramError| SocketPathError::Rejected {
            name,
            source: source.into(),
        }
    };
    match (load(program(object, name)?), second) {
        (Ok(()), _) => Ok(name),
        (Err(_), Some(second)) => load(program(object, second)?)
            .map(|()| second)
            .map_err(rejected(second)),
        (Err(error), None) => Err(rejected(name)(error)),
    }
}

/// Loads a program, if an attempt before has not.
fn load(program: &mut Program) -> Result<(), ProgramError> {
    let loaded = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SockOps(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    match loaded {
        Err(ProgramError::AlreadyLoaded) => Ok(()),
        loaded => loaded,
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
        Program::SockOps(program) => {
            let id = program.attach(cgroup, mode)?;
            program.take_link(id)?.try_into()
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    };
    link.map_err(|error: LinkError| ProgramError::IOError(io::Error::other(error)))
}
