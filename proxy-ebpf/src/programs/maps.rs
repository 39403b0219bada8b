//! The kernel's maps, and the pipeline's view of them.

use core::arch::asm;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns,
};
use aya_ebpf::maps::lpm_trie::Key;
use proxy_ebpf::layout::{
    Address, Affinity, AffinityKey, Backend, Bucket, Counter, EdgeDevice, FilterBits, FlowSeed,
    Fragment, FragmentKey, Frontend, FrontendKey, Liveness, NewFlow, Port, Retry, Settings,
    SlotPair, SourceRange, TraceEvent, Traffic, Tuple, ticks,
};
use proxy_ebpf::pipeline::Tables;

use crate::statics::{
    ANSWERS, COUNTERS, EDGE_DEVICES, FILTER, NAT_PORTS, SERVICE_TRAFFIC, SLOTS, TRACE_EVENTS,
    TRACE_LISTENER, VersionMaps,
};

/// Buckets of each flow table; the agent sets it.
#[unsafe(no_mangle)]
static FLOW_BUCKETS: Global<u32> = Global::new(1);

/// What `FLOW_SEED` holds; the agent sets it.
#[unsafe(no_mangle)]
static FLOW_SEED_VALUE: Global<u32> = Global::new(0);

/// 1 where the kernel has the clock that costs no more than to read a number (Linux 5.11); the
/// agent sets it.
#[unsafe(no_mangle)]
static HAS_COARSE_CLOCK: Global<u8> = Global::new(0);

/// All maps.
pub(crate) struct Maps;

impl<A: Address + VersionMaps<A>> Tables<A> for Maps {
    #[inline(always)]
    fn filter_matches(&self, bits: FilterBits) -> bool {
        FILTER.get(bits.word).is_some_and(|word| bits.are_in(*word))
    }

    #[inline(always)]
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Frontend> {
        // SAFETY: not preallocated, so a deleted element is not reused
        // while this program runs.
        unsafe { A::frontends().get(key) }.copied()
    }

    #[inline(always)]
    fn is_node_address(&self, address: &A) -> bool {
        A::node_addresses().get_ptr(address).is_some()
    }

    #[inline(always)]
    fn is_cluster_ip(&self, address: &A) -> bool {
        A::cluster_ips().get_ptr(address).is_some()
    }

    #[inline(always)]
    fn is_allowed(&self, source: &SourceRange<A>) -> bool {
        let key = Key::new(SourceRange::<A>::WHOLE, *source);
        A::source_ranges().get(key).is_some()
    }

    #[inline(always)]
    fn slot(&self, position: u32) -> Option<u32> {
        slot(position)
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<Backend<A>> {
        A::backends().get(index).copied()
    }

    #[inline(always)]
    fn liveness(&self, index: u32) -> Option<Liveness> {
        A::backend_liveness().get(index).copied()
    }

    #[inline(always)]
    fn set_liveness(&self, index: u32, liveness: &Liveness) {
        if let Some(place) = A::backend_liveness().get_ptr_mut(index) {
            // SAFETY: an element of an array; of two CPUs that write it, the last one wins.
            unsafe { *place = *liveness };
        }
    }

    #[inline(always)]
    fn settings(&self) -> Option<&Settings<A>> {
        let element = A::current_settings().get(0)?;
        // SAFETY: a number in a map; read once, for the agent may change it meanwhile.
        let index = unsafe { (&raw const element.index).read_volatile() };
        Some(element.at(index))
    }

    #[inline(always)]
    fn nat_port(&self, position: u32) -> Option<Port> {
        NAT_PORTS.get(position).copied()
    }

    #[inline(always)]
    fn flow_seed(&self) -> FlowSeed {
        FLOW_SEED_VALUE.load()
    }

    #[inline(always)]
    fn buckets(&self) -> u32 {
        FLOW_BUCKETS.load()
    }

    #[inline(always)]
    fn bucket(&self, index: u32) -> Option<&Bucket<A>> {
        A::flows().get(index)
    }

    #[inline(always)]
    fn store_new_flow(&self, flow: &NewFlow<A>) {
        if let Some(place) = A::new_flow().get_ptr_mut(0) {
            // SAFETY: this CPU's own element, which nothing else uses until the next stage
            // reads it: only programs at ingress do, which never interrupt one another.
            unsafe { *place = *flow };
        }
    }

    #[inline(always)]
    fn with_new_flow<R>(&self, work: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R> {
        let place = A::new_flow().get_ptr_mut(0)?;
        // SAFETY: as above.
        Some(work(unsafe { &mut *place }))
    }

    #[inline(always)]
    fn set_filter(&self, bits: FilterBits) {
        if let Some(word) = FILTER.get_ptr_mut(bits.word) {
            // SAFETY: an element of an array, aligned to 8 bytes.
            unsafe { atomic_or(word, bits.mask) };
        }
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity> {
        // SAFETY: as in `find`: at worst one connection goes astray, and
        // the backend's generation is checked.
        unsafe { A::affinity().get(key) }.copied()
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey<A>, affinity: &Affinity) {
        let _ = A::affinity().insert(key, affinity, BPF_ANY.into());
    }

    #[inline(always)]
    fn retry(&self, tuple: &Tuple<A>) -> Option<Retry<A>> {
        // SAFETY: as in `find`: at worst one SYN goes astray, whose number is checked.
        unsafe { A::retries().get(tuple) }.copied()
    }

    #[inline(always)]
    fn fragments(&self, key: &FragmentKey<A>) -> Option<Fragment<A>> {
        // SAFETY: as in `find`: at worst one datagram goes astray.
        unsafe { A::fragments().get(key) }.copied()
    }

    #[inline(always)]
    fn insert_fragment(&self, key: &FragmentKey<A>, fragment: &Fragment<A>) {
        let _ = A::fragments().insert(key, fragment, BPF_ANY.into());
    }

    #[inline(always)]
    fn pause(&self) {
        // SAFETY: reads a clock, which takes as long as is wanted.
        unsafe { bpf_ktime_get_ns() };
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        // SAFETY: reads the clock.
        ticks::from_nanoseconds(unsafe {
            if HAS_COARSE_CLOCK.load() == 1 {
                bpf_ktime_get_coarse_ns()
            } else {
                bpf_ktime_get_ns()
            }
        })
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: reads the kernel's random state.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn add_traffic(&self, service: u32, backend: u32, traffic: Traffic) {
        add(SERVICE_TRAFFIC.get_ptr_mut(service), traffic);
        add(A::backend_traffic().get_ptr_mut(backend), traffic);
    }

    #[inline(always)]
    fn take_reply_token(&self, budget: u32) -> bool {
        let Some(answers) = ANSWERS.get_ptr_mut(budget) else {
            return false;
        };
        // SAFETY: this CPU's own copy, and the program is not preempted by
        // itself.
        unsafe { (*answers).take(Tables::<A>::now(self)) }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        count(counter);
    }

    #[inline(always)]
    fn is_traced(&self, kinds: u32) -> bool {
        TRACE_LISTENER
            .get(0)
            .is_some_and(|listener| listener.wants(kinds, || Tables::<A>::now(self)))
    }

    #[inline(always)]
    fn nanoseconds(&self) -> u64 {
        // SAFETY: reads a clock.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn push_event(&self, event: &TraceEvent<A>) -> bool {
        let Some(mut entry) = TRACE_EVENTS.0.reserve::<TraceEvent<A>>(0) else {
            return false;
        };
        entry.write(*event);
        entry.submit(0);
        true
    }
}

#[inline(always)]
fn slot(position: u32) -> Option<u32> {
    let SlotPair([even, odd]) = *SLOTS.get(position >> 1)?;
    Some(if position & 1 == 0 { even } else { odd })
}

/// What is known of the edge device with this index.
#[inline(always)]
pub(crate) fn edge_device<'a>(index: u32) -> Option<&'a EdgeDevice> {
    // SAFETY: not preallocated, so a deleted element is not reused while this program
    // runs.
    unsafe { EDGE_DEVICES.get(index) }
}

#[inline(always)]
fn add(traffic: Option<*mut Traffic>, more: Traffic) {
    let Some(traffic) = traffic else {
        return;
    };
    // SAFETY: an element of an array, aligned to 8 bytes; no program accesses it otherwise.
    unsafe {
        // Known when this is compiled.
        if more.connections != 0 {
            atomic_add(&raw mut (*traffic).connections, more.connections);
        }
        atomic_add(&raw mut (*traffic).packets, more.packets);
    }
}

/// Adds in one step, whatever other CPUs do. (The library has this for targets only that
/// can also compare and swap, which the BPF target of Linux 5.15 is not sure to.)
///
/// # Safety
///
/// `number` is valid, and aligned to 8 bytes.
#[inline(always)]
unsafe fn atomic_add(number: *mut u64, more: u64) {
    // SAFETY: one instruction, which changes nothing but the number.
    unsafe {
        asm!(
            "lock *(u64 *)({number} + 0) += {more}",
            number = in(reg) number,
            more = in(reg) more,
            options(nostack),
        );
    }
}

/// Sets bits in one step, whatever other CPUs do (Linux 5.12).
///
/// # Safety
///
/// `number` is valid, and aligned to 8 bytes.
#[inline(always)]
unsafe fn atomic_or(number: *mut u64, bits: u64) {
    // SAFETY: one instruction, which changes nothing but the number.
    unsafe {
        asm!(
            "lock *(u64 *)({number} + 0) |= {bits}",
            number = in(reg) number,
            bits = in(reg) bits,
            options(nostack),
        );
    }
}

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own copy, and the program is not preempted by itself.
        unsafe { *value += 1 };
    }
}
