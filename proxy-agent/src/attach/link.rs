//! One program at one direction of a device: attached, kept there, replaced in place.

use std::fs;
use std::io;

use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{
    self, NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError, TcHandle,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use tracing::warn;

use super::device::Device;
use super::features::has_tcx;
use crate::config::AttachMode;
use crate::maps::Pins;

/// Priority of our clsact filter at ingress: before a CNI's own, which shall see
/// plain traffic between clients and pods.
const FIRST_FILTER: u16 = 1;
/// Priority of our clsact filter at egress: after a CNI's own.
const LAST_FILTER: u16 = u16::MAX - 1;
/// The handle of our clsact filters, by which a later agent finds them: "prox".
const FILTER: u32 = 0x7072_6f78;

/// A direction of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }

    /// First of all at ingress, last of all at egress.
    fn order(self) -> LinkOrder {
        match self {
            Self::Ingress => LinkOrder::first(),
            Self::Egress => LinkOrder::last(),
        }
    }

    fn priority(self) -> u16 {
        match self {
            Self::Ingress => FIRST_FILTER,
            Self::Egress => LAST_FILTER,
        }
    }

    /// The name of the pin of the link to a device.
    pub(super) fn pin(self, device: u32) -> String {
        format!("{device}-{}", self.as_str())
    }
}

/// A program attached to one direction of a device. Dropping it detaches, unless it is
/// pinned.
pub(super) struct Link {
    inner: SchedClassifierLink,
    direction: Direction,
    is_filter: bool,
}

/// Whether a program was found in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// It was, and is the given one now.
    Present,
    /// It was not, and is now.
    Reattached,
}

impl Link {
    /// How it is attached, for people.
    pub(super) fn way(&self) -> &'static str {
        if self.is_filter { "clsact" } else { "tcx" }
    }

    /// Attaches a program; one that an agent has left there is replaced in place.
    pub(super) fn attach(
        program: &mut SchedClassifier,
        device: &Device,
        direction: Direction,
        way: AttachMode,
        pins: Option<&Pins>,
    ) -> Result<Self, ProgramError> {
        let by_tcx = |program: &mut SchedClassifier| {
            let existing = pins.and_then(|pins| existing_link(pins, device, direction));
            if let Some(link) = existing
                && let Ok(id) = program.attach_to_link(link)
            {
                return Ok((program.take_link(id)?, false));
            }
            let id = attach_tcx(program, &device.name, direction)?;
            let link = program.take_link(id)?;
            Ok((
                pin_or_reattach(link, program, pins, device, direction)?,
                false,
            ))
        };
        let by_filter = |program: &mut SchedClassifier| {
            let id = attach_filter(program, &device.name, direction)?;
            Ok((program.take_link(id)?, true))
        };
        let attached: Result<_, ProgramError> = match way {
            AttachMode::Tcx => by_tcx(program),
            AttachMode::Clsact => by_filter(program),
            AttachMode::Auto => match by_tcx(program) {
                Err(error) if means_no_tcx(&error) && !has_tcx() => by_filter(program),
                attached => attached,
            },
        };
        let (inner, is_filter) = attached?;
        Ok(Self {
            inner,
            direction,
            is_filter,
        })
    }

    /// Makes `program` the one that is attached; where somebody has detached it, it is
    /// attached again.
    pub(super) fn keep(
        self,
        program: &mut SchedClassifier,
        device: &Device,
        way: AttachMode,
        pins: Option<&Pins>,
    ) -> Result<(Self, LinkState), ProgramError> {
        let Self {
            inner,
            direction,
            is_filter,
        } = self;
        if let Ok(id) = program.attach_to_link(inner) {
            let link = program.take_link(id)?;
            let is_pinned = pins
                .is_none_or(|pins| is_filter || pins.link(&direction.pin(device.index)).exists());
            let link = if is_pinned {
                link
            } else {
                pin_or_reattach(link, program, pins, device, direction)?
            };
            let link = Self {
                inner: link,
                direction,
                is_filter,
            };
            return Ok((link, LinkState::Present));
        }
        let link = Self::attach(program, device, direction, way, pins)?;
        Ok((link, LinkState::Reattached))
    }

    /// Whether it is a clsact filter.
    pub(super) fn is_filter(&self) -> bool {
        self.is_filter
    }

    /// Lets go of it without detaching: for an agent that ends and is to be followed by
    /// another one.
    pub(super) fn keep_attached(self) {
        // A filter is in nobody's hands; only this value would remove it. A pinned link
        // stays by itself.
        if self.is_filter {
            std::mem::forget(self.inner);
        }
    }
}

/// Whether an error of attaching is that of a kernel that does not know tcx: it takes the
/// type of attachment for none (`link_create`, kernel/bpf/syscall.c). There are others with
/// that error, so that it does not prove it.
fn means_no_tcx(error: &ProgramError) -> bool {
    let ProgramError::SyscallError(error) = error else {
        return false;
    };
    let errno = error.io_error.raw_os_error();
    matches!(errno, Some(libc::EINVAL | libc::EOPNOTSUPP))
}

/// Pins a link. Where that fails, the program serves without: it is attached again, for the
/// link went with the attempt.
fn pin_or_reattach(
    link: SchedClassifierLink,
    program: &mut SchedClassifier,
    pins: Option<&Pins>,
    device: &Device,
    direction: Direction,
) -> Result<SchedClassifierLink, ProgramError> {
    match pin(link, pins, device, direction) {
        Ok(link) => Ok(link),
        Err(error) => {
            warn!(
                device = device.name,
                direction = direction.as_str(),
                "the program ends with the agent: {}",
                anyhow::Error::from(error)
            );
            let id = attach_tcx(program, &device.name, direction)?;
            program.take_link(id)
        }
    }
}

/// The link that an agent has left at a device, if there is one.
fn existing_link(
    pins: &Pins,
    device: &Device,
    direction: Direction,
) -> Option<SchedClassifierLink> {
    let path = pins.link(&direction.pin(device.index));
    if !path.exists() {
        return None;
    }
    let link = PinnedLink::from_pin(&path)
        .and_then(|link| SchedClassifierLink::try_from(FdLink::from(link)));
    link.inspect_err(|error| {
        warn!(pin = %path.display(), "cannot use the link of the previous agent: {error}");
    })
    .ok()
}

/// Pins a tcx link, in the place of any that does not hold any more.
fn pin(
    link: SchedClassifierLink,
    pins: Option<&Pins>,
    device: &Device,
    direction: Direction,
) -> Result<SchedClassifierLink, ProgramError> {
    let Some(pins) = pins else {
        return Ok(link);
    };
    let path = pins.link(&direction.pin(device.index));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(pin = %path.display(), "cannot remove an old pin: {error}");
        }
        _ => {}
    }
    let failed = |error: &dyn std::error::Error| {
        let error = io::Error::other(format!("cannot pin {}: {error}", path.display()));
        ProgramError::from(TcError::IoError(error))
    };
    let link = FdLink::try_from(link).map_err(|error| failed(&error))?;
    let pinned = link.pin(&path).map_err(|error| failed(&error))?;
    FdLink::from(pinned)
        .try_into()
        .map_err(|error| failed(&error))
}

fn attach_tcx(
    program: &mut SchedClassifier,
    device: &str,
    direction: Direction,
) -> Result<SchedClassifierLinkId, ProgramError> {
    program.attach_with_options(
        device,
        direction.attach_type(),
        TcAttachOptions::TcxOrder(direction.order()),
    )
}

/// Attaches a filter to the device's clsact qdisc, which is made if need be. One that an
/// agent has left there is replaced.
fn attach_filter(
    program: &mut SchedClassifier,
    device: &str,
    direction: Direction,
) -> Result<SchedClassifierLinkId, ProgramError> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let (to, priority) = (direction.attach_type(), direction.priority());
    let handle = TcHandle::from(FILTER);
    let existing = SchedClassifierLink::attached(device, to, priority, handle, None);
    let existing = existing.map_err(TcError::IoError)?;
    if let Ok(id) = program.attach_to_link(existing) {
        return Ok(id);
    }
    program.attach_with_options(
        device,
        to,
        TcAttachOptions::Netlink(NlOptions {
            priority,
            handle,
            classid: None,
        }),
    )
}
