//! The devices that would get programs.

use crate::check::{Device, Facts, Finding, Role, State, Xdp};

/// The least MTU of IPv6 (RFC 8200, section 5).
const LEAST_MTU: u32 = 1280;
/// What most drivers with native XDP take: a frame in one page, beside headroom and the kernel's
/// own part of it.
const XDP_MTU: u32 = 3498;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let devices = match &facts.devices {
        Ok(devices) => devices,
        Err(why) => {
            let advice = "run this in the host's network namespace, with NET_ADMIN";
            return vec![Finding::of(State::Unknown, "devices", why.as_str(), advice)];
        }
    };
    let outside = || devices.iter().filter(|device| device.role != Role::Pod);
    let mut findings = vec![summary(devices)];
    findings.extend(outside().map(of_device));
    findings.push(mtu(devices));
    findings
}

fn summary(devices: &[Device]) -> Finding {
    let count = |role| devices.iter().filter(|it| it.role == role).count();
    let [pods, uplinks, others] = [Role::Pod, Role::Uplink, Role::Other].map(count);
    let found = format!("{uplinks} uplinks, {others} tunnels and the like, {pods} of Pods");
    if uplinks + others == 0 {
        return Finding::of(
            State::Error,
            "devices",
            format!("{found}: nothing leads out of this network namespace"),
            "run this in the host's network namespace (hostNetwork: true)",
        );
    }
    Finding::ok("devices", found)
}

fn of_device(device: &Device) -> Finding {
    let check = format!("device {}", device.name);
    let driver = device.driver.as_deref().unwrap_or("no driver");
    let mtu = device
        .mtu
        .map_or_else(|| "?".to_owned(), |mtu| mtu.to_string());
    let about = format!("{driver}, MTU {mtu}");
    match (device.role, device.xdp) {
        (Role::Pod | Role::Other, _) => Finding::ok(check, format!("{about}, by TC")),
        (Role::Uplink, Xdp::Native) if device.mtu.is_some_and(|mtu| mtu > XDP_MTU) => Finding::of(
            State::Warning,
            check,
            format!(
                "{about}: many drivers refuse XDP with packets of that length, then TC serves it"
            ),
            format!("nothing, or an MTU of {XDP_MTU} at most"),
        ),
        (Role::Uplink, Xdp::Native) => Finding::ok(check, format!("{about}, by XDP and TC")),
        (Role::Uplink, Xdp::None) => {
            Finding::ok(check, format!("{about}, by TC: its driver has no XDP"))
        }
        (Role::Uplink, Xdp::Unknown) => Finding::ok(
            check,
            format!(
                "{about}, by TC, and by XDP if its driver has that (before Linux 6.3 it does not say)"
            ),
        ),
    }
}

fn mtu(devices: &[Device]) -> Finding {
    const CHECK: &str = "mtu";
    let of = |is_pods: bool| {
        let of_side = devices
            .iter()
            .filter(move |it| (it.role == Role::Pod) == is_pods);
        of_side.filter_map(|it| it.mtu)
    };
    let small = devices
        .iter()
        .find(|it| it.mtu.is_some_and(|mtu| mtu < LEAST_MTU));
    if let Some(device) = small {
        return Finding::of(
            State::Warning,
            CHECK,
            format!("{} takes less than IPv6 needs ({LEAST_MTU})", device.name),
            "a larger MTU, or IPv4 alone",
        );
    }
    match (of(true).max(), of(false).min()) {
        (Some(pods), Some(outside)) if pods > outside => Finding::of(
            State::Warning,
            CHECK,
            format!("Pods send up to {pods} bytes, and a device that leads out takes {outside}"),
            "the CNI's MTU; without it all depends on path MTU discovery",
        ),
        _ => Finding::ok(CHECK, "Pods send no more than devices that lead out take"),
    }
}
