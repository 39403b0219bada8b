//! Pins that go while the agent runs, with the file system that they are in.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use proxy_ebpf::layout::VERSION;
use proxy_tests::lab::mirror;

use super::{End, Lasting, ask_all, conversations, message};
use crate::telling::probe;
use crate::world::agent_program;

const PATIENCE: Duration = Duration::from_secs(30);

/// Mounts something over the BPF file system of the first node.
fn mount_over(it: &Lasting, kind: &str) -> Result<()> {
    let node = &it.world.cluster.nodes[0].namespace;
    let mut mount = node.command_with(Some(&it.bpffs), "mount");
    let status = mount.args(["-t", kind, kind, "/sys/fs/bpf"]).status()?;
    ensure!(status.success(), "mount: {status}");
    Ok(())
}

#[test]
fn a_file_system_that_is_mounted_over_the_pins_gets_them_again() -> Result<()> {
    let mut it = Lasting::new(&[])?;
    it.add_mirror()?;
    it.scale(mirror::NAME, &[(2, 1)])?;
    let _servers = mirror::start([it.world.cluster.pod(2, 1)])?;
    let mut open = conversations(&it.world)?;
    ask_all(&mut open, "pod-2-1")?;
    let maps = format!("proxy-agent/maps-{VERSION}");
    let before = [it.bpffs.list("proxy-agent/links")?, it.bpffs.list(&maps)?];

    let mark = it.agent().mark();
    mount_over(&it, "bpf")?;
    it.agent().wait_for(mark, |event| {
        message(event).contains("they are there again")
    })?;
    let second = it.spawn()?;
    second.wait_for(0, |event| message(event).contains("another agent runs"))?;
    drop(second);

    it.end(End::Killed)?;
    let after = [it.bpffs.list("proxy-agent/links")?, it.bpffs.list(&maps)?];
    assert_eq!(after, before);
    ask_all(&mut open, "pod-2-1").context("without an agent")?;
    it.start()?;
    let first = it.agent().wait_programmed()?;
    // It goes on from the maps that are pinned there.
    assert_eq!(first["fields"]["writes"], 3, "{first}");
    ask_all(&mut open, "pod-2-1").context("with the next one")
}

#[test]
fn an_agent_that_cannot_pin_any_more_is_unhealthy() -> Result<()> {
    let mut it = Lasting::without_agent()?;
    let folder = it.world.cluster.directory.path().to_owned();
    let config = folder.join("config.yaml");
    std::fs::write(
        &config,
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         kind: KubeProxyConfiguration\n\
         iptables: {syncPeriod: 1s}\n",
    )?;
    let socket = folder.join("probe.sock").display().to_string();
    it.arguments = vec![
        format!("--config={}", config.display()),
        format!("--probe-socket={socket}"),
    ];
    it.start()?;
    let program = agent_program();
    ensure!(probe(&program, "live", &socket)?.0);

    let mark = it.agent().mark();
    mount_over(&it, "tmpfs")?;
    it.agent().wait_for(mark, |event| {
        message(event).contains("cannot be made again")
    })?;
    let deadline = Instant::now() + PATIENCE;
    while probe(&program, "live", &socket)?.0 {
        ensure!(Instant::now() < deadline, "it is healthy still");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
