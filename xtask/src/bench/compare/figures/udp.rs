//! Small datagrams from outside.

use std::{
    fs,
    net::SocketAddrV4,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::super::{
    super::report::{Goal, Row},
    lab::{Lab, cpus},
    load::{self, LOCAL_NODE_PORT, Load, REMOTE_NODE_PORT},
    plan::Session,
    turns::{self, Contender, Value, value},
    variant::Variant,
};
use super::Name;

pub(super) const ABOUT: (&str, &str) = (
    "Small datagrams from outside by NodePort",
    "A client outside of the cluster sends datagrams of 18 bytes to a NodePort of node1, as fast \
     as one CPU does it; a receiver in a Pod of node1 (local) or node2 (remote) counts them on \
     another CPU. The sender has 64 at once cut apart at its device (`UDP_SEGMENT`), so that it \
     costs little. A CPU second is the time in which a CPU of the machine was not idle, from \
     /proc/stat, with all that is not the proxy in it: sender, bridge, receiver, and for remote \
     ones node2. The limit is the Pod directly, routed by node1 without a proxy. Cables are like \
     hardware to XDP in all of these labs: complete checksums, no segmentation.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "XDP on veth devices saves nothing: the kernel has made the packet's `sk_buff` before, and \
    copies it into a frame. Four times iptables is for hardware, which this machine has not.";

/// Of datagrams that are sent, so many have to come at least: less is a path that fails, not
/// one that is slow.
const LEAST: f64 = 0.1;
/// After the last datagram was sent.
const SETTLE: Duration = Duration::from_millis(50);

/// What is sent from where to where.
pub(super) struct Flood {
    pub(super) lab: usize,
    pub(super) to: SocketAddrV4,
    /// The node whose Pod receives.
    pub(super) node: u8,
    pub(super) is_from_outside: bool,
}

/// Measures in labs that stand side by side; also from Pod to Pod.
pub(in super::super) fn measure(
    session: &mut Session,
    labs: &mut [Lab],
    load: &Load,
) -> Result<()> {
    if session.wants(Name::Udp) {
        let mut rows = Vec::new();
        for (node, place, port) in [
            (1, "local", LOCAL_NODE_PORT),
            (2, "remote", REMOTE_NODE_PORT),
        ] {
            let contenders: Vec<_> = (0..)
                .zip(&*labs)
                .map(|(lab, it)| from_outside(lab, it.variant, node, place, port, load.services))
                .collect();
            let what = format!("datagrams, {place}");
            rows.extend(take(session, labs, &what, &contenders)?);
        }
        session.add(Name::Udp, rows)?;
    }
    if session.wants(Name::Plain) {
        let is_plain = |variant: Variant| variant == Variant::None || variant.options().is_some();
        let contenders: Vec<_> = (0..)
            .zip(&*labs)
            .filter(|(_, it)| is_plain(it.variant))
            .map(|(lab, it)| from_pod(lab, it.variant))
            .collect();
        let mut rows = take(session, labs, "datagrams, Pod to Pod", &contenders)?;
        rows.retain(|row| row.aspect == "rate");
        session.add(Name::Plain, rows)?;
    }
    Ok(())
}

/// By a NodePort; without a proxy, to the Pod directly.
fn from_outside(
    lab: usize,
    variant: Variant,
    node: u8,
    place: &str,
    port: u16,
    services: u32,
) -> Contender<Flood> {
    let flood = |to| Flood {
        lab,
        to,
        node,
        is_from_outside: true,
    };
    if variant == Variant::None {
        let to = load::direct_datagrams(node);
        Contender::new(variant, &format!("Pod, {place}"), flood(to)).limit()
    } else {
        let to = load::node_port(port);
        Contender::new(variant, &format!("NodePort, {place}"), flood(to)).among(services)
    }
}

/// From the Pod of node1 to that of node2.
fn from_pod(lab: usize, variant: Variant) -> Contender<Flood> {
    let flood = Flood {
        lab,
        to: load::direct_datagrams(2),
        node: 2,
        is_from_outside: false,
    };
    let contender = Contender::new(variant, "Pod, datagrams", flood);
    if variant == Variant::None {
        contender.limit()
    } else {
        contender
    }
}

fn take(
    session: &Session,
    labs: &mut [Lab],
    what: &str,
    contenders: &[Contender<Flood>],
) -> Result<Vec<Row>> {
    let (rounds, milliseconds) = session.plan.udp;
    turns::take(what, rounds, contenders, &session.clock, |flood| {
        run(&mut labs[flood.lab], flood, milliseconds)
    })
}

pub(super) fn run(lab: &mut Lab, flood: &Flood, milliseconds: u64) -> Result<Vec<Value>> {
    let before = lab.server(flood.node)?.count()?;
    let (began, idle) = (Instant::now(), idle()?);
    let sender = if flood.is_from_outside {
        &mut lab.outside
    } else {
        &mut lab.sender
    };
    let sent = sender.flood(flood.to, milliseconds)?;
    let took = began.elapsed().as_secs_f64();
    let busy = took * f64::from(u32::try_from(cpus())?) - (self::idle()? - idle);
    thread::sleep(SETTLE);
    let came = lab.server(flood.node)?.count()? - before;
    let [sent, came] = [sent, came].map(|it| f64::from(u32::try_from(it).unwrap_or(u32::MAX)));
    ensure!(
        came >= sent * LEAST,
        "of {sent} datagrams to {}, {came} came",
        flood.to
    );
    Ok(vec![
        value("rate", "1/s", came / took),
        value("for each CPU second", "1/s", came / busy),
        value("came", "of 1", came / sent),
    ])
}

/// Seconds that all CPUs together were idle, waited for a disk, or were not there (a
/// virtual machine's), since the start of the machine.
fn idle() -> Result<f64> {
    let path = "/proc/stat";
    let text = fs::read_to_string(path).context(path)?;
    idle_of(&text).with_context(|| format!("{path}: no line of all CPUs"))
}

/// proc(5): user, nice, system, idle, iowait, irq, softirq, steal; in hundredths.
fn idle_of(stat: &str) -> Option<f64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields = fields.split_whitespace().map(str::parse);
    let fields: Vec<u32> = fields.collect::<Result<_, _>>().ok()?;
    let ticks = [3, 4, 7].map(|field| fields.get(field).copied().unwrap_or_default());
    Some(ticks.iter().map(|it| f64::from(*it)).sum::<f64>() / 100.0)
}

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let of = |variant: &str, to: &str| {
        let is_it = |row: &&Row| {
            row.variant == variant && row.to == to && row.aspect == "for each CPU second"
        };
        rows.iter().find(is_it).map(|row| row.value.median)
    };
    let wanted = |to: &str, ours: &str, other: &str, times: f64| {
        let quotient = of(ours, to)? / of(other, to)?;
        Some(Goal {
            text: format!("{to}: {ours} at least {times} times {other}, for each CPU second"),
            found: format!("{quotient:.2}"),
            met: quotient >= times,
        })
    };
    let goals = ["NodePort, local", "NodePort, remote"]
        .into_iter()
        .flat_map(|to| {
            [
                wanted(to, "XDP", "iptables", 4.0),
                wanted(to, "TC", "nftables", 1.0),
            ]
        });
    goals.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_that_of_all_processors() {
        let stat = "cpu  10 20 30 400 50 60 70 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(idle_of(stat), Some(5.3));
        assert_eq!(idle_of("intr 1\n"), None);
    }
}
