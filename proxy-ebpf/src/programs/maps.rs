//! The kernel's maps, and the pipeline's view of them.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_ANY, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray};
use proxy_ebpf::layout::{
    self, Affinity, AffinityKey, Allowed, Answers, Backend, ClusterIp, Counter, FilterBits, Flow,
    FlowKey, Fragment, FragmentKey, Frontend, FrontendKey, NatPort, NodeAddress, Port, Settings,
    SlotPair, SourceRange, Traffic, V4, V6, XdpWays, flow_flags, ticks,
};
use proxy_ebpf::pipeline::{Make, MakeError, Tables};

/// The agent sets every size before it loads the programs.
const SIZED_BY_AGENT: u32 = 1;
const EEXIST: i32 = -17;

/// `DEVICE_ADDRS_*`, of one IP version.
pub(crate) trait DeviceAddresses<A> {
    /// The address with which packets leave that are sent on by the device.
    fn device_address(&self, device: u32) -> Option<&A>;
}

macro_rules! maps {
    ($($address:ty: $frontends:ident $node_addresses:ident $device_addresses:ident $backends:ident $flows:ident $opening:ident $affinity:ident $source_ranges:ident $cluster_ips:ident $fragments:ident $settings:ident $traffic:ident;)*) => {
        $(
            #[map]
            static $frontends: HashMap<FrontendKey<$address>, Frontend> =
                HashMap::with_max_entries(SIZED_BY_AGENT, BPF_F_NO_PREALLOC);
            #[map]
            static $node_addresses: HashMap<$address, NodeAddress> =
                HashMap::with_max_entries(SIZED_BY_AGENT, BPF_F_NO_PREALLOC);
            #[map]
            static $device_addresses: HashMap<u32, $address> =
                HashMap::with_max_entries(layout::DEVICE_ADDRESSES, BPF_F_NO_PREALLOC);
            #[map]
            static $backends: Array<Backend<$address>> =
                Array::with_max_entries(SIZED_BY_AGENT, BPF_F_MMAPABLE);
            #[map]
            static $flows: LruHashMap<FlowKey<$address>, Flow<$address>> =
                LruHashMap::with_max_entries(SIZED_BY_AGENT, 0);
            #[map]
            static $opening: LruHashMap<FlowKey<$address>, Flow<$address>> =
                LruHashMap::with_max_entries(SIZED_BY_AGENT, 0);
            #[map]
            static $affinity: LruHashMap<AffinityKey<$address>, Affinity> =
                LruHashMap::with_max_entries(SIZED_BY_AGENT, 0);
            #[map]
            static $source_ranges: LpmTrie<SourceRange<$address>, Allowed> =
                LpmTrie::with_max_entries(SIZED_BY_AGENT, BPF_F_NO_PREALLOC);
            #[map]
            static $cluster_ips: HashMap<$address, ClusterIp> =
                HashMap::with_max_entries(SIZED_BY_AGENT, BPF_F_NO_PREALLOC);
            #[map]
            static $fragments: LruHashMap<FragmentKey<$address>, Fragment<$address>> =
                LruHashMap::with_max_entries(layout::FRAGMENTS, 0);
            #[map]
            static $settings: Array<Settings<$address>> = Array::with_max_entries(1, 0);
            #[map]
            static $traffic: Array<Traffic> =
                Array::with_max_entries(SIZED_BY_AGENT, BPF_F_MMAPABLE);

            impl DeviceAddresses<$address> for Maps {
                #[inline(always)]
                fn device_address(&self, device: u32) -> Option<&$address> {
                    // SAFETY: not preallocated, so a deleted element is not reused
                    // while this program runs.
                    unsafe { $device_addresses.get(device) }
                }
            }

            impl Tables<$address> for Maps {
                type Flow<'a> = &'a Flow<$address>;

                #[inline(always)]
                fn are_set(&self, bits: FilterBits) -> bool {
                    FILTER.get(bits.word).is_some_and(|word| bits.are_in(*word))
                }

                #[inline(always)]
                fn frontend(&self, key: &FrontendKey<$address>) -> Option<Frontend> {
                    // SAFETY: not preallocated, so a deleted element is not reused
                    // while this program runs.
                    unsafe { $frontends.get(key) }.copied()
                }

                #[inline(always)]
                fn is_node_address(&self, address: &$address) -> bool {
                    $node_addresses.get_ptr(address).is_some()
                }

                #[inline(always)]
                fn is_cluster_ip(&self, address: &$address) -> bool {
                    $cluster_ips.get_ptr(address).is_some()
                }

                #[inline(always)]
                fn is_allowed(&self, source: &SourceRange<$address>) -> bool {
                    let key = Key::new(SourceRange::<$address>::WHOLE, *source);
                    $source_ranges.get(key).is_some()
                }

                #[inline(always)]
                fn slot(&self, position: u32) -> Option<u32> {
                    slot(position)
                }

                #[inline(always)]
                fn backend(&self, index: u32) -> Option<Backend<$address>> {
                    $backends.get(index).copied()
                }

                #[inline(always)]
                fn settings(&self) -> Option<&Settings<$address>> {
                    $settings.get(0)
                }

                #[inline(always)]
                fn nat_port(&self, position: u32) -> Option<Port> {
                    NAT_PORTS.get(position).copied()
                }

                #[inline(always)]
                fn find(&self, key: &FlowKey<$address>) -> Option<&Flow<$address>> {
                    // SAFETY: the kernel may give an evicted record's memory to
                    // another flow while it is read; every field is plain data, so
                    // at worst one packet of an evicted flow goes astray.
                    unsafe { $flows.get(key).or_else(|| $opening.get(key)) }
                }

                #[inline(always)]
                fn make(
                    &self,
                    key: &FlowKey<$address>,
                    flow: &Flow<$address>,
                    how: Make,
                ) -> Result<(), MakeError> {
                    let is_opening = flow.flags() & flow_flags::OPENING != 0;
                    if is_opening && how == Make::Replace {
                        remove(&$flows, key);
                    }
                    let table = if is_opening { &$opening } else { &$flows };
                    match table.insert(key, flow, BPF_NOEXIST.into()) {
                        Ok(()) => {
                            count(Counter::RecordsMade);
                            Ok(())
                        }
                        Err(EEXIST) if how == Make::IfAbsent => Err(MakeError::Exists),
                        Err(EEXIST) => {
                            let replaced = table.insert(key, flow, BPF_ANY.into());
                            replaced.map_err(|_| MakeError::Full)
                        }
                        Err(_) => Err(MakeError::Full),
                    }
                }

                #[inline(always)]
                fn forget(&self, key: &FlowKey<$address>) {
                    remove(&$flows, key);
                    remove(&$opening, key);
                }

                #[inline(always)]
                fn affinity(&self, key: &AffinityKey<$address>) -> Option<Affinity> {
                    // SAFETY: as in `find`: at worst one connection goes astray, and
                    // the backend's generation is checked.
                    unsafe { $affinity.get(key) }.copied()
                }

                #[inline(always)]
                fn remember(&self, key: &AffinityKey<$address>, affinity: &Affinity) {
                    let _ = $affinity.insert(key, affinity, BPF_ANY.into());
                }

                #[inline(always)]
                fn fragments(&self, key: &FragmentKey<$address>) -> Option<Fragment<$address>> {
                    // SAFETY: as in `find`: at worst one datagram goes astray.
                    unsafe { $fragments.get(key) }.copied()
                }

                #[inline(always)]
                fn remember_fragments(
                    &self,
                    key: &FragmentKey<$address>,
                    fragment: &Fragment<$address>,
                ) {
                    let _ = $fragments.insert(key, fragment, BPF_ANY.into());
                }

                #[inline(always)]
                fn now(&self) -> u32 {
                    // SAFETY: reads the clock.
                    ticks::from_nanoseconds(unsafe { bpf_ktime_get_ns() })
                }

                #[inline(always)]
                fn random(&self) -> u32 {
                    // SAFETY: reads the kernel's random state.
                    unsafe { bpf_get_prandom_u32() }
                }

                #[inline(always)]
                fn add_traffic(&self, service: u32, backend: u32, traffic: Traffic) {
                    add(SERVICE_TRAFFIC.get_ptr_mut(service), traffic);
                    add($traffic.get_ptr_mut(backend), traffic);
                }

                #[inline(always)]
                fn may_answer(&self) -> bool {
                    let Some(answers) = ANSWERS.get_ptr_mut(0) else {
                        return false;
                    };
                    // SAFETY: this CPU's own copy, and the program is not preempted by
                    // itself.
                    unsafe { (*answers).take(Tables::<$address>::now(self)) }
                }

                #[inline(always)]
                fn count(&self, counter: Counter) {
                    count(counter);
                }
            }
        )*
    };
}

/// All maps.
pub(crate) struct Maps;

#[map]
static FILTER: Array<u64> = Array::with_max_entries(layout::FILTER_WORDS, BPF_F_MMAPABLE);
#[map]
static SLOTS: Array<SlotPair> = Array::with_max_entries(SIZED_BY_AGENT, BPF_F_MMAPABLE);
#[map]
static NAT_PORTS: Array<NatPort> = Array::with_max_entries(layout::NAT_PORTS, BPF_F_MMAPABLE);
/// What XDP can do with devices, by their index.
#[map]
static XDP_DEVICES: HashMap<u32, XdpWays> =
    HashMap::with_max_entries(layout::XDP_DEVICES, BPF_F_NO_PREALLOC);
#[map]
static SERVICE_TRAFFIC: Array<Traffic> = Array::with_max_entries(SIZED_BY_AGENT, BPF_F_MMAPABLE);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(layout::COUNTERS, 0);

/// The programs of the stages.
#[map]
pub(crate) static STAGES: ProgramArray = ProgramArray::with_max_entries(layout::STAGES, 0);
#[map]
static ANSWERS: PerCpuArray<Answers> = PerCpuArray::with_max_entries(1, 0);

maps! {
    V4: FRONTENDS_V4 NODE_ADDRS_V4 DEVICE_ADDRS_V4 BACKENDS_V4 FLOWS_V4 OPENING_V4 AFFINITY_V4 SOURCE_RANGES_V4 CLUSTER_IPS_V4 FRAGMENTS_V4 SETTINGS_V4 BACKEND_TRAFFIC_V4;
    V6: FRONTENDS_V6 NODE_ADDRS_V6 DEVICE_ADDRS_V6 BACKENDS_V6 FLOWS_V6 OPENING_V6 AFFINITY_V6 SOURCE_RANGES_V6 CLUSTER_IPS_V6 FRAGMENTS_V6 SETTINGS_V6 BACKEND_TRAFFIC_V6;
}

#[inline(always)]
fn slot(position: u32) -> Option<u32> {
    let SlotPair([even, odd]) = *SLOTS.get(position >> 1)?;
    Some(if position & 1 == 0 { even } else { odd })
}

/// What XDP can do with a device, in bits of `xdp_ways`.
#[inline(always)]
pub(crate) fn xdp_ways_of(device: u32) -> XdpWays {
    // SAFETY: not preallocated, so a deleted element is not reused while this program
    // runs.
    unsafe { XDP_DEVICES.get(device) }.copied().unwrap_or(0)
}

/// Removes a flow record, if it is there.
#[inline(always)]
fn remove<A>(table: &LruHashMap<FlowKey<A>, Flow<A>>, key: &FlowKey<A>) {
    if table.remove(key).is_ok() {
        count(Counter::RecordsRemoved);
    }
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

#[inline(always)]
pub(crate) fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: this CPU's own copy, and the program is not preempted by itself.
        unsafe { *value += 1 };
    }
}
