//! The way back to kube-proxy: `run --cleanup` beside its rules.

use anyhow::{Context as _, Result, ensure};
use proxy_tests::lab::Process;
use proxy_tests::lab::client::Transport;
use serde_json::Value;

use super::clients::{ALL_HELD, Clients};
use super::kube_proxy::{Mode, write_rules};
use super::{CNI, ENOUGH, PATIENCE, serve};
use crate::restarts::{End, Lasting};
use crate::world::agent_program;

/// Runs the clean-up; returns what it has said of the flows.
fn clean_up(it: &Lasting) -> Result<Value> {
    let node = &it.world.cluster.nodes[0].namespace;
    let mut command = node.command_with(Some(&it.bpffs), agent_program());
    command.args(["run", "--cleanup", "--log-format", "json"]);
    let mut cleanup = Process::spawn("cleanup", command)?;
    let status = cleanup.wait(PATIENCE)?;
    let log = cleanup.lines();
    ensure!(status.success(), "{}", log.join("\n"));
    let events = log
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok());
    let told = events
        .map(|event: Value| event["fields"].clone())
        .find(|fields| fields["message"] == "flows given to netfilter");
    told.with_context(|| log.join("\n"))
}

fn nobody_is_lost_on_the_way_back(mode: Mode) -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.world.cluster.nodes[0].namespace.nft(CNI)?;
    let _servers = serve(&it.world)?;
    it.start()?;
    let mut clients = Clients::start(&it.world, &[Transport::Tcp, Transport::Udp])?;
    clients.hold_by_host(&it.world)?;
    clients.go_on(ENOUGH).context("by the programs")?;

    write_rules(&it.world.cluster, mode)?;
    it.end(End::Stopped)?;
    let told = clean_up(&it)?;
    clients.go_on(ENOUGH).context("by netfilter")?;
    let answers = clients.end()?;
    println!("{answers} answers; {told}");
    ensure!(told["given"].as_u64() >= Some(ALL_HELD as u64), "{told}");
    ensure!(told["failed"] == 0, "{told}");
    Ok(())
}

#[test]
fn nobody_is_lost_on_the_way_back_to_nftables() -> Result<()> {
    nobody_is_lost_on_the_way_back(Mode::Nftables)
}

#[test]
fn nobody_is_lost_on_the_way_back_to_iptables() -> Result<()> {
    nobody_is_lost_on_the_way_back(Mode::Iptables)
}
