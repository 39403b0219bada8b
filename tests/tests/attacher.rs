//! What attaches programs to devices, without an agent around it.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use proxy_agent::attach::device::{Device, DeviceKind, LinkLayer, Role};
use proxy_agent::attach::{Attacher, ReconcileScope, Uplinks};
use proxy_agent::config::{AttachMode, XdpChoice};
use proxy_agent::maps::{MapSizes, PinError, Pins, SocketScope, load};
use proxy_ebpf::layout::VERSION;
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
    let pins = (pins, loaded.lasting);
    Ok(Attacher::new(loaded.programs, way, uplinks, pins, None))
}

/// What `tc` prints.
fn tc(namespace: &Namespace, arguments: &[&str]) -> Result<String> {
    let mut command: Command = namespace.command("tc");
    let output = command.args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The filters of `d2`, as `tc` prints them.
fn filters(namespace: &Namespace) -> Result<String> {
    tc(namespace, &["filter", "show", "dev", "d2", "ingress"])
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

/// Somebody else's filter has the place of ours at ingress.
#[test]
fn what_fails_at_ingress_leaves_egress_attached() -> Result<()> {
    let namespace = namespace("ingress")?;
    namespace.run(|| {
        let mut attacher = attacher(AttachMode::Clsact, None)?;
        let mut reconcile =
            || attacher.reconcile(&[device(2)], &BTreeSet::new(), ReconcileScope::All);
        reconcile();
        let at_ingress = |what, of_filter: &[&str]| {
            let place = ["filter", what, "dev", "d2", "ingress", "prio", "1"];
            tc(&namespace, &[&place, of_filter].concat())
        };
        at_ingress("del", &[])?;
        // A classic program for another protocol, which returns nothing.
        let foreign = ["protocol", "ip", "bpf", "bytecode", "1,6 0 0 0"];
        at_ingress("add", &foreign)?;
        assert_eq!(reconcile().failed.len(), 1);
        let egress = tc(&namespace, &["filter", "show", "dev", "d2", "egress"])?;
        assert!(egress.contains("direct-action"), "{egress}");

        at_ingress("del", &[])?;
        assert_eq!(reconcile().failed.len(), 0);
        assert!(filters(&namespace)?.contains("ingress_pod"));
        assert_eq!((attacher.served(), attacher.failing_for()), (1, None));
        Ok(())
    })?
}

#[test]
fn pins_that_somebody_removes_come_back_and_let_nobody_else_in() -> Result<()> {
    let bpffs = Bpffs::new()?;
    let namespace = namespace("pins")?;
    let pins = Pins::open(&bpffs.path())?;
    let maps = format!("proxy-agent/maps-{VERSION}");
    let pinned = || anyhow::Ok([bpffs.list("proxy-agent/links")?, bpffs.list(&maps)?]);
    namespace.run(|| {
        let mut attacher = attacher(AttachMode::Auto, Some(pins))?;
        let reconcile = |attacher: &mut Attacher| {
            attacher.reconcile(&[device(2)], &BTreeSet::new(), ReconcileScope::All)
        };
        reconcile(&mut attacher);
        // As the agent does when it has attached programs, which pins that are made again say too.
        attacher.mark_attached()?;
        let before = pinned()?;
        std::fs::remove_dir_all(bpffs.path().join("proxy-agent"))?;
        let second = Pins::open(&bpffs.path());
        assert!(matches!(second, Err(PinError::InUse(_))), "{second:?}");
        let outcome = reconcile(&mut attacher);
        assert!(outcome.restored.is_empty(), "the programs have stayed");
        assert_eq!(pinned()?, before);

        std::fs::remove_dir_all(bpffs.path().join(&maps))?;
        reconcile(&mut attacher);
        assert_eq!(pinned()?, before);
        assert_eq!(attacher.failing_for(), None);
        Ok(())
    })?
}
