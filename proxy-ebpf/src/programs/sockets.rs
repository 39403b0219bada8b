//! What is known of sockets, and whose they are.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_ANY;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use proxy_ebpf::layout::{Address, CGROUP_LEVELS, Retry, SocketKey, SocketRecord, Tuple};
use proxy_ebpf::pipeline::SocketTables;

use crate::maps::Maps;
use crate::statics::{LEFT_OUT, LEFT_OUT_LEVELS, VersionMaps};

/// The cookie of the host's network namespace; the agent sets it. Every other one is a
/// Pod's.
#[unsafe(no_mangle)]
pub(crate) static HOST_NETNS: Global<u64> = Global::new(0);

/// 1 where the sockets of Pods are served as well as the host's; the agent sets it.
#[unsafe(no_mangle)]
pub(crate) static SERVES_PODS: Global<u8> = Global::new(0);

/// Whether the calling process belongs to a Pod whose sockets are left alone.
#[inline(always)]
pub(crate) fn is_opted_out() -> bool {
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

impl<A: Address + VersionMaps<A>> SocketTables<A> for Maps {
    #[inline(always)]
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketRecord<A>> {
        // SAFETY: the kernel may give an evicted record's memory to another socket while it
        // is read; all of it is plain data, so at worst one call of a socket that was
        // forgotten goes astray.
        unsafe { A::sockets().get(key) }.copied()
    }

    #[inline(always)]
    fn insert_socket(&self, key: &SocketKey<A>, record: &SocketRecord<A>) {
        let _ = A::sockets().insert(key, record, BPF_ANY.into());
    }

    #[inline(always)]
    fn insert_retry(&self, tuple: &Tuple<A>, retry: &Retry<A>) {
        let _ = A::retries().insert(tuple, retry, BPF_ANY.into());
    }

    #[inline(always)]
    fn remove_socket(&self, key: &SocketKey<A>) {
        let _ = A::sockets().remove(key);
    }
}
