//! A socket buffer as the pipeline's packet.

use core::mem::MaybeUninit;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM,
};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head,
    bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
    bpf_skb_vlan_pop,
};
use aya_ebpf::programs::TcContext;
use proxy_ebpf::layout::{Bytes, LinkAddress, Span};
use proxy_ebpf::pipeline::{
    Client, Delta, Packet, PseudoHeader, TransportChecksum, TupleDelta, all_ones_if_zero,
    barrier_var, choose,
};

use crate::maps::edge_device;
use crate::mark;

/// Headers are read from the buffer's linear part. A stage fills one up that is shorter than
/// this: Ethernet, two VLAN tags, IPv6, extension headers and TCP fit.
const LINEAR: u32 = 192;

/// No offset of a header exceeds this; the verifier wants a bound, and IPv6
/// extension headers can claim any length.
const MAX_OFFSET: usize = 0x7fff;

/// The length of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// `BPF_F_IPV6` of `bpf_l4_csum_replace`: leaves a checksum that covers the whole
/// packet alone. Linux 6.16, and stable kernels since; others answer `EINVAL`.
const BPF_F_IPV6: u64 = 1 << 7;

/// A socket buffer, of whose IPv6 extension headers so many are walked through.
pub(crate) struct Skb<const MAX_EXTENSION_HEADERS: usize = 5> {
    raw: *mut __sk_buff,
}

impl<const MAX_EXTENSION_HEADERS: usize> Skb<MAX_EXTENSION_HEADERS> {
    #[inline(always)]
    pub(crate) fn new(ctx: &TcContext) -> Self {
        Self {
            raw: ctx.as_ptr().cast(),
        }
    }

    #[inline(always)]
    pub(crate) fn raw(&self) -> *mut __sk_buff {
        self.raw
    }

    /// The EtherType that the stack has for it.
    #[inline(always)]
    pub(crate) fn protocol(&self) -> u16 {
        // SAFETY: a field of the context, 16 bits in 32.
        u16::from_be(unsafe { (*self.raw).protocol } as u16)
    }

    /// Notes in the buffer that the packet was translated, for the programs of devices above this
    /// one, such as a VLAN device. The stack does not use this field otherwise, and keeps it.
    #[inline(always)]
    pub(crate) fn mark_translated(&mut self) {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).tc_index = mark::tc_index() };
    }

    /// Whether [`Self::mark_translated`] was called for it in this network namespace.
    #[inline(always)]
    pub(crate) fn is_translated(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.raw).tc_index == mark::tc_index() }
    }

    /// Takes the mark off: the packet leaves, and may come in again as another one.
    #[inline(always)]
    pub(crate) fn unmark_translated(&mut self) {
        if self.is_translated() {
            // SAFETY: as above.
            unsafe { (*self.raw).tc_index = 0 };
        }
    }

    /// What a program leaves to the program of a stage: where the network header is, and
    /// how long a packet may be.
    #[inline(always)]
    pub(crate) fn store_cb(&mut self, network: usize, mtu: u16) {
        // SAFETY: fields of the context that belong to its programs.
        unsafe {
            (*self.raw).cb[0] = network as u32;
            (*self.raw).cb[1] = u32::from(mtu);
        }
    }

    /// What [`Self::store_cb`] has left.
    #[inline(always)]
    pub(crate) fn load_cb(&self) -> (usize, u16) {
        // SAFETY: as above.
        let (network, mtu) = unsafe { ((*self.raw).cb[0], (*self.raw).cb[1]) };
        (network as usize & 0xff, mtu as u16)
    }

    /// Leaves who the client is to the programs of stages.
    #[inline(always)]
    pub(crate) fn store_client(&mut self, client: Client) {
        // SAFETY: as above.
        unsafe { (*self.raw).cb[4] = client as u32 };
    }

    /// What [`Self::store_client`] has left.
    #[inline(always)]
    pub(crate) fn load_client(&self) -> Client {
        const HOST: u32 = Client::Host as u32;
        const POD: u32 = Client::Pod as u32;
        // SAFETY: as above.
        match unsafe { (*self.raw).cb[4] } {
            HOST => Client::Host,
            POD => Client::Pod,
            _ => Client::Outside,
        }
    }

    /// Leaves a set of endpoints as well.
    #[inline(always)]
    pub(crate) fn store_endpoints(&mut self, Span { start, len }: Span) {
        // SAFETY: as above.
        unsafe {
            (*self.raw).cb[2] = start;
            (*self.raw).cb[3] = len;
        }
    }

    /// What [`Self::store_endpoints`] has left.
    #[inline(always)]
    pub(crate) fn load_endpoints(&self) -> Span {
        // SAFETY: as above.
        let (start, len) = unsafe { ((*self.raw).cb[2], (*self.raw).cb[3]) };
        Span { start, len }
    }

    /// Number of bytes, as 32 bits.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).len }
    }

    /// The length of the segments that the packet will be cut into, without headers; 0 if
    /// it goes as it is.
    #[inline(always)]
    pub(crate) fn segment_length(&self) -> usize {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).gso_size as usize }
    }

    /// Whether the packet has the tag of a VLAN: then it is the business of that one's device, or
    /// nobody's. The VLAN 0 is none, but a priority's (IEEE 802.1Q).
    #[inline(always)]
    pub(crate) fn is_tagged(&self) -> bool {
        const VLAN_ID: u32 = 0xfff;
        // SAFETY: fields of the context. The kernel has put the outer tag beside the bytes.
        unsafe { (*self.raw).vlan_present != 0 && (*self.raw).vlan_tci & VLAN_ID != 0 }
    }

    /// Whether the frame is for this host: to the device's address, or to that of its bridge.
    #[inline(always)]
    pub(crate) fn is_for_this_host(&self) -> bool {
        if self.is_for_host() {
            return true;
        }
        self.read::<LinkAddress>(0)
            .is_some_and(|to| edge_device(self.device()).is_some_and(|it| it.has_address(to)))
    }

    /// Whether the frame, which leaves, is this host's: from the device's address, or from that of
    /// its bridge. A bridge also forwards frames of others.
    #[inline(always)]
    pub(crate) fn is_from_this_host(&self) -> bool {
        self.read::<LinkAddress>(size_of::<LinkAddress>())
            .is_some_and(|from| edge_device(self.device()).is_some_and(|it| it.has_address(from)))
    }

    /// Addresses the frame to this host, as one that comes in by a device with this address.
    #[inline(always)]
    pub(crate) fn address_to(&mut self, device: LinkAddress) -> bool {
        self.write(0, &device).is_some()
    }

    /// Takes off the tag that the packet has come with. The kernel keeps it beside the bytes, so
    /// that these stay where they are. False if it is still there.
    #[inline(always)]
    pub(crate) fn pop_vlan(&mut self) -> bool {
        // SAFETY: a field of the context, and a helper.
        unsafe { (*self.raw).vlan_present == 0 || bpf_skb_vlan_pop(self.raw) == 0 }
    }

    /// Puts an empty Ethernet header in front of a packet that has no link header. False if there
    /// is still none.
    #[inline(always)]
    pub(crate) fn push_link_header(&mut self) -> bool {
        const ETHERNET_HEADER: u32 = 14;
        // SAFETY: a helper; the packet's bytes are not read afterwards.
        unsafe { bpf_skb_change_head(self.raw, ETHERNET_HEADER, 0) == 0 }
    }

    /// Whether all of it is in the linear part.
    #[inline(always)]
    pub(crate) fn is_linear(&self) -> bool {
        // SAFETY: fields of the context.
        unsafe { (*self.raw).data_end - (*self.raw).data >= (*self.raw).len }
    }

    /// Brings all headers into the linear part.
    #[inline(always)]
    pub(crate) fn make_linear(&mut self) {
        self.make_linear_up_to(LINEAR);
    }

    /// Brings all headers into the linear part where less than `needed` bytes are there.
    #[inline(always)]
    pub(crate) fn make_linear_up_to(&mut self, needed: u32) {
        // SAFETY: fields of the context, and a helper that changes nothing where
        // it fails: then the headers are read as cut short.
        unsafe {
            let linear = (*self.raw).data_end - (*self.raw).data;
            let len = (*self.raw).len;
            if linear < needed && linear < len {
                bpf_skb_pull_data(self.raw, if len < LINEAR { len } else { LINEAR });
            }
        }
    }

    /// Where a value lies, if all of it is in the linear part.
    #[inline(always)]
    fn at<T: Bytes>(&self, offset: usize) -> Option<*mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        // SAFETY: fields of the context.
        let (data, end) = unsafe { ((*self.raw).data as usize, (*self.raw).data_end as usize) };
        let start = data + offset;
        (start + size_of::<T>() <= end).then_some(start as *mut T)
    }

    /// Where a value of a header lies that was parsed: its offset is known to be in bounds. The
    /// verifier does not know of this place what the compiler knows of the one that was read;
    /// and a comparison in place of the mask would have it tell apart every way to the offset.
    #[inline(always)]
    fn header_at<T: Bytes>(&self, offset: usize) -> Option<*mut T> {
        // SAFETY: fields of the context.
        let (data, end) = unsafe { ((*self.raw).data as usize, (*self.raw).data_end as usize) };
        let start = data + (barrier_var(offset) & MAX_OFFSET);
        (start + size_of::<T>() <= end).then_some(start as *mut T)
    }

    /// Reads a value by a helper: in the midst of a program, where the verifier would have to
    /// know the offset of a direct access on every way there.
    #[inline(always)]
    fn load<T: Bytes>(&self, offset: usize) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper checks the offset, and fills all of `value`, of which any bytes
        // are a value, where it succeeds.
        unsafe {
            let (to, length) = (value.as_mut_ptr().cast(), size_of::<T>() as u32);
            succeeded(bpf_skb_load_bytes(
                self.raw.cast(),
                offset as u32,
                to,
                length,
            ))?;
            Some(value.assume_init())
        }
    }

    /// Has the kernel adjust a checksum for a change of addresses, or of bytes that belong to the
    /// header itself.
    #[inline(always)]
    fn adjust_checksum(
        &mut self,
        offset: usize,
        delta: u32,
        covers: PseudoHeader,
        flags: u64,
    ) -> Option<()> {
        if covers == PseudoHeader::Ipv4 {
            return self.replace_checksum(offset, delta, flags);
        }
        let is_done = self.replace_checksum(offset, delta, flags | BPF_F_IPV6);
        if is_done.is_some() {
            return Some(());
        }
        self.replace_checksum(offset, delta, flags)?;
        // The helper took the change of addresses from a sum over the whole packet, as is right
        // for IPv4: give it back.
        let given = delta & !all_ones_if_zero((flags & u64::from(BPF_F_PSEUDO_HDR)) as u32);
        // SAFETY: fails, and changes nothing, where there is no such sum.
        unsafe { bpf_csum_update(self.raw, given) };
        Some(())
    }

    #[inline(always)]
    fn replace_checksum(&mut self, offset: usize, delta: u32, flags: u64) -> Option<()> {
        // SAFETY: the helper checks the offset.
        succeeded(unsafe {
            bpf_l4_csum_replace(self.raw, offset as u32, 0, u64::from(delta), flags)
        })
    }
}

fn succeeded(result: i64) -> Option<()> {
    (result == 0).then_some(())
}

impl<const MAX_EXTENSION_HEADERS: usize> Packet for Skb<MAX_EXTENSION_HEADERS> {
    const MAX_EXTENSION_HEADERS: usize = MAX_EXTENSION_HEADERS;

    #[inline(always)]
    fn len(&self) -> usize {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).len as usize }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: a field of the context.
        unsafe { (*self.raw).ifindex }
    }

    #[inline(always)]
    fn is_for_host(&self) -> bool {
        const PACKET_HOST: u32 = 0;
        // SAFETY: a field of the context.
        unsafe { (*self.raw).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn read<T: Bytes>(&self, offset: usize) -> Option<T> {
        // SAFETY: the verifier proves the bounds from the check in `at`. The targets of eBPF
        // that Kubernetes runs on load words from any address.
        self.at::<T>(offset).map(|value| unsafe { *value })
    }

    #[inline(always)]
    fn write<T: Bytes>(&mut self, offset: usize, value: &T) -> Option<()> {
        // SAFETY: the helper checks the offset, and `value` has no padding.
        succeeded(unsafe {
            bpf_skb_store_bytes(
                self.raw,
                offset as u32,
                core::ptr::from_ref(value).cast(),
                size_of::<T>() as u32,
                0,
            )
        })
    }

    #[inline(always)]
    fn update<T: Bytes>(&mut self, offset: usize, change: impl FnOnce(T) -> T) -> Option<()> {
        let place = self.header_at::<T>(offset)?;
        // SAFETY: as in `read`, and what is written has no padding.
        unsafe { *place = change(*place) };
        Some(())
    }

    /// By way of the buffer: nobody keeps account of what lies there. In the place of
    /// [`Self::store_endpoints`], which only a stage reads that writes no header.
    #[inline(always)]
    fn forget_origin(&mut self, offset: usize) -> usize {
        // SAFETY: a field of the context that belongs to its programs.
        unsafe {
            let place = &raw mut (*self.raw).cb[2];
            place.write_volatile(offset as u32);
            place.read_volatile() as usize
        }
    }

    /// The kernel alone knows whether the checksum is complete, or that of the pseudo header only,
    /// which hardware completes (`CHECKSUM_PARTIAL`). Its helper is asked for the addresses, and
    /// what it does with them tells what the ports mean to the checksum. Where the addresses'
    /// difference is none, it is asked for the ports. Without a branch: the verifier would
    /// follow each.
    #[inline(always)]
    fn adjust_transport_checksum(
        &mut self,
        checksum: TransportChecksum,
        delta: TupleDelta,
        covers: PseudoHeader,
    ) -> Option<()> {
        let TupleDelta { addresses, ports } = delta;
        let asks_for_ports = all_ones_if_zero(u32::from(!addresses.is_zero()));
        let asked = choose(asks_for_ports, ports.raw(), addresses.raw());
        let flags =
            BPF_F_PSEUDO_HDR & !asks_for_ports | BPF_F_MARK_MANGLED_0 & checksum.absent_mask();
        // SAFETY: as in `read`.
        let old = unsafe { *self.header_at::<u16>(checksum.offset)? };
        self.adjust_checksum(checksum.offset, asked, covers, flags.into())?;
        // The helper has made the place unknown.
        let place = self.header_at::<u16>(checksum.offset)?;
        // SAFETY: as in `read`.
        let new = unsafe { *place };
        let is_complete =
            all_ones_if_zero(u32::from(new ^ checksum.after(addresses, old))) & !asks_for_ports;
        let with_ports = u32::from(checksum.after(ports, new));
        // SAFETY: as in `read`.
        unsafe { *place = choose(is_complete, with_ports, new.into()) as u16 };
        Some(())
    }

    #[inline(always)]
    fn adjust_header_checksum(&mut self, offset: usize, delta: Delta) -> Option<()> {
        self.replace_checksum(offset, delta.raw(), 0)
    }

    #[inline(always)]
    fn adjust_checksum_complete(&mut self, delta: Delta) {
        // SAFETY: fails, and changes nothing, where there is no such sum.
        unsafe { bpf_csum_update(self.raw, delta.raw()) };
    }

    #[inline(always)]
    fn adjust_sctp_checksum(&mut self, offset: usize, change: u32) -> Option<()> {
        let old: u32 = self.load(offset)?;
        if old == 0 && self.is_checksum_partial(offset, 0) {
            return Some(());
        }
        let new = old ^ change;
        self.write(offset, &new)?;
        self.adjust_checksum_complete(Delta::between(&[old], &[new]));
        Some(())
    }

    #[inline(always)]
    fn is_checksum_partial(&mut self, offset: usize, present: u16) -> bool {
        // The helper leaves a checksum that is yet to be completed alone, as the change
        // is none of the pseudo header's.
        // SAFETY: the helper checks the offset.
        unsafe { bpf_l4_csum_replace(self.raw, offset as u32, 0, 1, 0) };
        let is_pending = self.load(offset) == Some(present);
        if !is_pending {
            let _ = self.write(offset, &present);
        }
        is_pending
    }

    #[inline(always)]
    fn prepend<T: Bytes>(&mut self, network: usize, end: usize, headers: &T) -> Option<()> {
        // SAFETY: the helpers check the lengths, and `headers` has no padding.
        unsafe {
            succeeded(bpf_skb_change_tail(self.raw, end as u32, 0))?;
            let length = size_of::<T>();
            succeeded(bpf_skb_adjust_room(
                self.raw,
                length as i32,
                BPF_ADJ_ROOM_MAC,
                0,
            ))?;
            succeeded(bpf_skb_store_bytes(
                self.raw,
                network as u32,
                core::ptr::from_ref(headers).cast(),
                length as u32,
                u64::from(BPF_F_RECOMPUTE_CSUM),
            ))
        }
    }

    #[inline(always)]
    fn encapsulate<T: Bytes>(&mut self, network: usize, outer: &T) -> Option<()> {
        let length = size_of::<T>();
        let kind = if length == IPV4_HEADER {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
        } else {
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV6
        };
        // That the segments fit was seen to before.
        let flags = u64::from(kind | BPF_F_ADJ_ROOM_FIXED_GSO);
        // SAFETY: the helpers check the lengths, and `outer` has no padding.
        unsafe {
            succeeded(bpf_skb_adjust_room(
                self.raw,
                length as i32,
                BPF_ADJ_ROOM_MAC,
                flags,
            ))?;
            succeeded(bpf_skb_store_bytes(
                self.raw,
                network as u32,
                core::ptr::from_ref(outer).cast(),
                length as u32,
                u64::from(BPF_F_RECOMPUTE_CSUM),
            ))
        }
    }

    #[inline(always)]
    fn decapsulate(&mut self, _: usize, length: usize) -> Option<()> {
        let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
        // SAFETY: the helper checks the length.
        succeeded(unsafe {
            bpf_skb_adjust_room(self.raw, -(length as i32), BPF_ADJ_ROOM_MAC, flags)
        })
    }
}
