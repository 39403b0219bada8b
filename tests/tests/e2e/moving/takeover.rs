//! The way in: an agent takes over from kube-proxy's rules, which are removed then.

use anyhow::{Context as _, Result};

use super::clients::Clients;
use super::kube_proxy::{Mode, remove_rules, write_rules};
use super::{CNI, ENOUGH, serve};
use crate::restarts::{End, Lasting};

/// How the move goes on after the agent has taken over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cleaning {
    /// The rules go at once.
    AtOnce,
    /// Both are there for a while.
    Late,
}

/// Moves in; `beside` are other rules of the node.
fn nobody_is_lost_on_the_way_in(
    mode: Mode,
    beside: &str,
    cleaning: Cleaning,
    take_over: impl FnOnce(&mut Lasting) -> Result<()>,
) -> Result<()> {
    let mut it = Lasting::without_agent()?;
    it.world.cluster.nodes[0].namespace.nft(beside)?;
    let _servers = serve(&it.world)?;
    write_rules(&it.world.cluster, mode)?;
    // Those that are held. Of sockets that begin in the very moment in which netfilter forgets
    // connections, one of some million was lost here.
    let mut clients = Clients::start(&it.world, &[])?;
    // Left to netfilter, which translates for as long as there is a chain of type nat.
    if !beside.is_empty() || mode == Mode::Iptables {
        clients.hold_by_host(&it.world)?;
    }
    clients.go_on(ENOUGH).context("by netfilter")?;

    take_over(&mut it)?;
    if cleaning == Cleaning::Late {
        clients
            .go_on(ENOUGH)
            .context("by the programs, beside the rules")?;
    }
    remove_rules(&it.world.cluster, mode)?;
    clients.go_on(ENOUGH).context("by the programs")?;
    let answers = clients.end()?;
    println!("{answers} answers");
    Ok(())
}

#[test]
fn nobody_is_lost_on_the_way_in_from_nftables_that_are_removed_at_once() -> Result<()> {
    nobody_is_lost_on_the_way_in(Mode::Nftables, "", Cleaning::AtOnce, Lasting::take_over)
}

#[test]
fn nobody_is_lost_on_the_way_in_from_iptables() -> Result<()> {
    nobody_is_lost_on_the_way_in(Mode::Iptables, "", Cleaning::Late, Lasting::take_over)
}

#[test]
fn nobody_is_lost_on_the_way_in_from_iptables_that_are_removed_at_once() -> Result<()> {
    nobody_is_lost_on_the_way_in(Mode::Iptables, CNI, Cleaning::AtOnce, Lasting::take_over)
}

#[test]
fn nobody_is_lost_where_the_agent_is_killed_when_it_has_just_taken_over() -> Result<()> {
    nobody_is_lost_on_the_way_in(Mode::Nftables, "", Cleaning::Late, |it| {
        it.take_over()?;
        it.end(End::Killed)?;
        it.start()
    })
}
