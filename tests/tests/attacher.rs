//! What attaches programs to devices, without an agent around it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result};
use proxy_agent::attach::device::{Device, DeviceKind, LinkLayer, Role};
use proxy_agent::attach::{Attacher, ReconcileScope, Uplinks};
use proxy_agent::config::{AttachMode, XdpChoice};
use proxy_agent::maps::{MapSizes, Pins, SocketScope, load};
use proxy_tests::lab::{Bpffs, Namespace};

const SIZES: MapSizes = MapSizes {
    frontends: 64,
    backends: 64,
    slots: 64,
    flows: 1024,
    node_addresses: 16,
};

/// A namespace with a cable `d2`, whose index is 2.
fn namespace(role: &str) -> Result<Namespace> {
    let lab = format!("attacher-{}", std::process::id());
    let namespace = Namespace::create(&lab, &[role])?.pop().context("none")?;
    namespace.ip(&["link add d2 index 2 type veth peer name d3 index 3".into()])?;
    Ok(namespace)
}

fn device(index: u32) -> Device {
    Device {
        index,
        name: format!("d{index}"),
        kind: DeviceKind::Veth,
        link: LinkLayer::Ethernet,
        is_xdp_target: None,
        has_remote_peer: true,
        controller: None,
        below: None,
        link_address: None,
        addresses: Vec::new(),
    }
}

fn attacher(way: AttachMode, pins: Option<Pins>) -> Result<Attacher> {
    let loaded = load(SIZES, SocketScope::default(), pins.as_ref())?;
    let uplinks = Uplinks::new(XdpChoice::Never, loaded.edge_devices);
    Ok(Attacher::new(loaded.programs, way, uplinks, pins, None))
}

/// The filters of `d2`, as `tc` prints them.
fn filters(namespace: &Namespace) -> Result<String> {
    let mut command: Command = namespace.command("tc");
    let output = command
        .args(["filter", "show", "dev", "d2", "ingress"])
        .output()?;
    Ok(String::from_utf8(output.stdout)?)
}

#[test]
fn a_device_that_has_just_gone_is_no_failure() -> Result<()> {
    let namespace = namespace("gone")?;
    namespace.run(|| {
        let mut attacher = attacher(AttachMode::Auto, None)?;
        let devices = [device(2), device(9)];
        let outcome = attacher.reconcile(&devices, &BTreeSet::new(), ReconcileScope::All);
        assert_eq!(outcome.attached, [("d2".to_owned(), Role::Pod)]);
        assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        assert_eq!(attacher.failing_for(), None);
        Ok(())
    })?
}

#[test]
fn filters_stay_whatever_ends_an_attacher_with_pins() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let namespace = namespace("filters")?;
    for (is_lasting, text) in [(false, ""), (true, "ingress_pod")] {
        let pins = is_lasting.then(|| Pins::open(&bpffs.path())).transpose()?;
        namespace.run(|| {
            let mut attacher = attacher(AttachMode::Clsact, pins)?;
            attacher.reconcile(&[device(2)], &BTreeSet::new(), ReconcileScope::All);
            assert!(filters(&namespace)?.contains("ingress_pod"));
            drop(attacher);
            anyhow::Ok(())
        })??;
        let left = filters(&namespace)?;
        assert!(
            left.contains(text) && left.is_empty() != is_lasting,
            "{left}"
        );
    }
    Ok(())
}
