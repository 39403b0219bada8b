//! What the agent costs those who call no Service.

use super::super::super::report::{Goal, Row};
use super::of_limit;

pub(super) const ABOUT: (&str, &str) = (
    "Pod to Pod, without a Service",
    "A Pod of node1 and a Pod of node2, with and without the agent on both nodes. Throughput is \
     that of `iperf3` in the runs of \"Throughput\". Datagrams of 18 bytes are sent as fast as \
     one CPU does it, and counted by the receiver on another CPU, in the labs of \"Small \
     datagrams\", whose cables are like hardware to XDP.",
);

/// Why its goals are missed, as far as it was found out.
pub(super) const MISSED: &str = "Four programs see each datagram on its way; what each takes in real traffic stands under \"Cost \
    of a packet\". There a run takes several times what it takes when it is repeated, for in \
    between the kernel's stack has used the nearest caches. To XDP on a veth device the kernel \
    copies each packet to make room in front of it (`veth_convert_skb_to_xdp_buff`); hardware has \
    that room. The throughput of a stream differs more from round to round than its goal allows \
    for. To try: smaller code between a hook's entry and its way out.";

pub(super) fn goals(rows: &[Row]) -> Vec<Goal> {
    let aspects = [
        ("throughput", "TCP throughput with the agent"),
        ("rate", "datagrams a second with the agent"),
    ];
    let wanted = aspects.into_iter().filter_map(|(aspect, text)| {
        let ours = rows.iter().filter(|row| row.aspect == aspect);
        let ours = ours.filter(|row| row.variant != "no proxy");
        of_limit(
            text,
            0.99,
            ours.filter_map(|row| row.of_limit.map(|it| it.median)),
        )
    });
    wanted.collect()
}
