//! XDP: ingress of uplinks, before there is a socket buffer.
//!
//! What it cannot finish it passes on as it came, to the program of TC behind it.

use aya_ebpf::bindings::BPF_FIB_LKUP_RET_SUCCESS;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use proxy_ebpf::layout::{
    Address, Counter, EdgeDevice, LinkAddress, Tuple, V4, V6, XdpDeviceFlags, xdp_device_flags,
};
use proxy_ebpf::pipeline::{Client, Context, Headers, HookCapabilities, Packet, Verdict};

use crate::fib::{FibLookup, fib_lookup};
use crate::forward::Route;
use crate::maps::{Maps, count, edge_device};
use crate::mark;
use crate::xdp_buff::XdpBuff;

/// Where the EtherType is in a frame, and the network header. Frames with VLAN tags are
/// left to TC: they belong to another device.
const ETHERTYPE: usize = 12;
const NETWORK: usize = 14;

#[xdp]
pub(crate) fn xdp_outside(ctx: XdpContext) -> u32 {
    let mut packet = XdpBuff::new(&ctx);
    match packet.read(ETHERTYPE).map(u16::from_be) {
        Some(V4::ETHERTYPE) => on_ingress::<V4>(&mut packet),
        Some(V6::ETHERTYPE) => on_ingress::<V6>(&mut packet),

        _ => XDP_PASS,
    }
}

#[inline(always)]
fn on_ingress<A>(packet: &mut XdpBuff) -> u32
where
    A: Route + proxy_ebpf::pipeline::IpVersion,
    [A; 2]: proxy_ebpf::layout::Bytes,
    Maps: proxy_ebpf::pipeline::Tables<A>,
{
    let mut capabilities = XdpCapabilities::from(packet);
    let mut context = Context::new(packet, NETWORK, &Maps, Client::Outside);
    match context.ingress(&mut capabilities) {
        // What has a stage of its own is TC's.
        Verdict::Pass
        | Verdict::Continue(_)
        | Verdict::Refuse(_)
        | Verdict::Reinject
        | Verdict::Deliver
        | Verdict::Encapsulate(_)
        | Verdict::OpenTunnelled(_) => XDP_PASS,
        Verdict::PassTranslated => {
            count(Counter::XdpPass);
            XDP_PASS
        }
        Verdict::Drop(_) | Verdict::Discard => XDP_DROP,
        Verdict::Bounce => capabilities.send(),
        Verdict::Forward(_) => capabilities.send_on(packet),
    }
}

/// What XDP can do with a packet.
struct XdpCapabilities {
    packet: *mut aya_ebpf::bindings::xdp_md,
    device: u32,
    /// What is known of it, once it is asked for.
    own: Option<&'static EdgeDevice>,
    /// Where it goes, found before the packet was changed: a device, the way out of it,
    /// and the Ethernet addresses.
    target: u32,
    way: XdpDeviceFlags,
    link: [u16; 6],
}

impl XdpCapabilities {
    #[inline(always)]
    fn from(packet: &XdpBuff) -> Self {
        Self {
            packet: packet.raw(),
            device: packet.device(),
            own: None,
            target: 0,
            way: 0,
            link: [0; 6],
        }
    }

    /// Finds a way to send the packet out of a device.
    #[inline(always)]
    fn find(&mut self, device: u32) -> bool {
        let (known, usable) = if device == self.device {
            let both = xdp_device_flags::TX | xdp_device_flags::REDIRECT;
            (self.own, both)
        } else {
            (edge_device(device), xdp_device_flags::REDIRECT)
        };
        self.target = device;
        self.way = known.map_or(0, |it| it.xdp) & usable;
        self.way != 0
    }

    /// Sends the packet on, with new Ethernet addresses.
    #[inline(always)]
    fn send_on(&self, packet: &mut XdpBuff) -> u32 {
        if packet.write(0, &self.link).is_none() {
            count(Counter::RewriteFailed);
            return XDP_DROP;
        }
        self.send()
    }

    /// Sends the packet by the way that was found.
    #[inline(always)]
    fn send(&self) -> u32 {
        count(Counter::XdpTransmit);
        if self.way & xdp_device_flags::TX != 0 {
            return XDP_TX;
        }
        // SAFETY: sends the packet out of a device that can do that.
        unsafe { bpf_redirect(self.target, 0) as u32 }
    }
}

impl<A: Route> HookCapabilities<A> for XdpCapabilities {
    const HAS_NEXT_HOOK: bool = true;

    #[inline(always)]
    fn is_for_this_host(&mut self) -> bool {
        self.own = edge_device(self.device);
        let to = XdpBuff::from_raw(self.packet).read::<LinkAddress>(0);
        let (Some(own), Some(to)) = (self.own, to) else {
            return false;
        };
        own.has_address(to)
    }

    #[inline(always)]
    fn can_pass(&mut self) -> bool {
        mark::set(self.packet)
    }

    #[inline(always)]
    fn can_bounce(&mut self) -> bool {
        self.find(self.device)
    }

    #[inline(always)]
    fn can_forward(&mut self, headers: &Headers<A>, to: &Tuple<A>) -> bool {
        let mut lookup = FibLookup {
            family: A::FAMILY,
            length: (headers.end - headers.network) as u16,
            device: self.device,
            source: to.source.to_fib_words(),
            destination: to.destination.to_fib_words(),
            ..FibLookup::default()
        };
        // Anything else is for TC: to find the neighbour out, to tell the sender of the
        // way's MTU, to drop the packet.
        if fib_lookup(self.packet.cast(), &mut lookup) != i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
            return false;
        }
        let [d0, d1, d2] = lookup.destination_link;
        let [s0, s1, s2] = lookup.source_link;
        self.link = [d0, d1, d2, s0, s1, s2];
        self.find(lookup.device)
    }
}
