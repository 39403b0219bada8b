//! What is known of sockets, and whose they are.

use aya_ebpf::Global;
use aya_ebpf::bindings::{BPF_ANY, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap};
use proxy_ebpf::layout::{CGROUP_LEVELS, LEFT_OUT_PODS, SocketKey, SocketRecord, V4, V6};
use proxy_ebpf::pipeline::Sockets;

use crate::maps::Maps;

/// The cookie of the host's network namespace; the agent sets it. Every other one is a
/// Pod's.
#[unsafe(no_mangle)]
pub(crate) static HOST_NETNS: Global<u64> = Global::new(0);

/// 1 where the sockets of Pods are served as well as the host's; the agent sets it.
#[unsafe(no_mangle)]
pub(crate) static SERVES_PODS: Global<u8> = Global::new(0);

/// The cgroups of Pods whose sockets are left alone, by id.
#[map]
static LEFT_OUT: HashMap<u64, u32> = HashMap::with_max_entries(LEFT_OUT_PODS, BPF_F_NO_PREALLOC);

/// The levels below the root of all cgroups at which there are such, a bit for each.
#[map]
static LEFT_OUT_LEVELS: Array<u32> = Array::with_max_entries(1, 0);

/// Whether the calling process belongs to a Pod whose sockets are left alone.
#[inline(always)]
pub(crate) fn is_left_out() -> bool {
    let levels = LEFT_OUT_LEVELS.get(0).copied().unwrap_or_default();
    if levels == 0 {
        return false;
    }
    for level in 1..CGROUP_LEVELS {
        if levels >> level & 1 == 1 {
            // SAFETY: a helper that reads the process's cgroup; 0 where there is none at
            // this level.
            let cgroup = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
            if LEFT_OUT.get_ptr(&cgroup).is_some() {
                return true;
            }
        }
    }
    false
}

macro_rules! sockets {
    ($($address:ty: $sockets:ident;)*) => {
        $(
            #[map]
            static $sockets: LruHashMap<SocketKey<$address>, SocketRecord<$address>> =
                LruHashMap::with_max_entries(1, 0);

            impl Sockets<$address> for Maps {
                #[inline(always)]
                fn socket(&self, key: &SocketKey<$address>) -> Option<SocketRecord<$address>> {
                    // SAFETY: the kernel may give an evicted record's memory to another
                    // socket while it is read; all of it is plain data, so at worst one
                    // call of a socket that was forgotten goes astray.
                    unsafe { $sockets.get(key) }.copied()
                }

                #[inline(always)]
                fn remember_socket(
                    &self,
                    key: &SocketKey<$address>,
                    record: &SocketRecord<$address>,
                ) {
                    let _ = $sockets.insert(key, record, BPF_ANY.into());
                }

                #[inline(always)]
                fn forget_socket(&self, key: &SocketKey<$address>) {
                    let _ = $sockets.remove(key);
                }
            }
        )*
    };
}

sockets! {
    V4: SOCKETS_V4;
    V6: SOCKETS_V6;
}
