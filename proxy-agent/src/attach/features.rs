//! What the running kernel has of that which the agent uses where it is there.

use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported};

use super::socket_path::netns_cookie;
use super::xdp_features;
use crate::config::AttachMode;
use crate::maps::running_kernel;

/// A device that every network namespace has.
const LOOPBACK: &str = "lo";

/// The running kernel, and its optional features, each probed by itself: distributions carry
/// features of later kernels back, so that a release says little.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a kernel has each of them, or has not"
)]
pub struct Features {
    /// As `uname -r` says it.
    pub release: String,
    /// tcx (Linux 6.6); without it programs are attached by clsact filters.
    pub tcx: bool,
    /// Whether devices report if XDP may redirect to them (Linux 6.3); without it XDP sends
    /// packets only by the device at which they came in.
    pub xdp_redirect_targets: bool,
    /// `bpf_set_retval` in programs at sockets (Linux 6.1); without it a refused call fails
    /// with `EPERM`.
    pub set_retval: bool,
    /// `SO_NETNS_COOKIE` (Linux 5.14); without it sockets are not served.
    pub netns_cookie: bool,
}

/// A setting that the running kernel cannot meet.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// Only tcx may be used, and there is none.
    #[error(
        "Linux {0} has no tcx (since Linux 6.6): set `--attach auto` to fall back on clsact \
         filters, or run a newer kernel"
    )]
    NoTcx(String),
}

impl Features {
    /// Asks the kernel, in the network namespace of the calling thread. What it does not
    /// report counts as missing.
    pub fn probe() -> Self {
        Self {
            release: running_kernel(),
            tcx: has_tcx(),
            xdp_redirect_targets: xdp_features::targets().is_some(),
            set_retval: has_set_retval(),
            netns_cookie: netns_cookie().is_ok(),
        }
    }

    /// Whether programs can be attached as they are to be.
    pub fn allow(&self, way: AttachMode) -> Result<(), FeatureError> {
        match way {
            AttachMode::Tcx if !self.tcx => Err(FeatureError::NoTcx(self.release.clone())),
            AttachMode::Tcx | AttachMode::Clsact | AttachMode::Auto => Ok(()),
        }
    }
}

/// Whether the kernel answers which programs a device has by tcx.
pub(super) fn has_tcx() -> bool {
    SchedClassifier::query_tcx(LOOPBACK, TcAttachType::Ingress).is_ok()
}

fn has_set_retval() -> bool {
    let helper = BpfHelper::BPF_FUNC_set_retval;
    is_helper_supported(ProgramType::CgroupSockAddr, helper).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_tcx() -> Features {
        Features {
            release: "6.1.0-9-cloud-amd64".into(),
            tcx: false,
            xdp_redirect_targets: false,
            set_retval: true,
            netns_cookie: true,
        }
    }

    #[test]
    fn tcx_is_refused_in_one_line_where_there_is_none() {
        let refused = without_tcx()
            .allow(AttachMode::Tcx)
            .unwrap_err()
            .to_string();
        for part in ["6.1.0-9-cloud-amd64", "6.6", "--attach auto"] {
            assert!(refused.contains(part), "{refused}");
        }
        assert_eq!(refused.lines().count(), 1);
    }

    #[test]
    fn other_ways_need_no_tcx() {
        for way in [AttachMode::Auto, AttachMode::Clsact] {
            without_tcx().allow(way).unwrap();
        }
    }
}
