//! The eBPF object that the agent carries.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aya::{Ebpf, EbpfLoader};
use proxy_ebpf::layout::{FlowSeed, maps};

use super::{MapError, running_kernel};
use crate::config::MapSizes;

/// The object that the build script has built.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/programs"));

/// Whose sockets are served, where sockets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketScope {
    /// The cookie of the host's network namespace.
    pub host_netns: u64,
    /// Whether Pods' sockets are served as well as the host's.
    pub pods: bool,
}

/// The object with new maps, or those in a folder. None of its programs is loaded yet.
///
/// # Errors
///
/// The kernel is too old, the process lacks a capability, or memory is short.
pub fn object(
    sizes: MapSizes,
    scope: SocketScope,
    seed: FlowSeed,
    folder: Option<&Path>,
) -> Result<Ebpf, MapError> {
    let serves_pods = u8::from(scope.pods);
    let buckets = sizes.of(maps::FLOWS_V4.size);
    let has_coarse_clock = u8::from(has_coarse_clock());
    let mut loader = EbpfLoader::new();
    loader.override_global("HOST_NETNS", &scope.host_netns, true);
    loader.override_global("SERVES_PODS", &serves_pods, true);
    loader.override_global("FLOW_BUCKETS", &buckets, true);
    loader.override_global("FLOW_SEED_VALUE", &seed, true);
    loader.override_global("HAS_COARSE_CLOCK", &has_coarse_clock, true);
    for map in maps::ALL {
        loader.map_max_entries(map.name, sizes.of(map.size));
        if let (Some(folder), true) = (folder, map.lifetime.is_pinned()) {
            loader.map_pin_path(map.name, folder.join(map.name));
        }
    }
    let mark = network_namespace()?;
    loader.override_global("TRANSLATED_MARK", &mark, true);
    Ok(loader.load(OBJECT)?)
}

/// Gives back the memory of the object's pages once it has been read, some 13 MiB: they are of the
/// program's file, and come again when somebody reads them (`MADV_DONTNEED`, madvise(2)).
#[expect(unsafe_code, reason = "the kernel's view of this process's memory")]
pub fn release_object() {
    const PAGE: usize = 64 * 1024;
    let start = OBJECT.as_ptr().align_offset(PAGE);
    let length = OBJECT.len().saturating_sub(start) / PAGE * PAGE;
    if let Some(pages) = OBJECT.get(start..start.saturating_add(length)) {
        // SAFETY: whole pages (of at most 64 KiB) of a read-only mapping of a file, whose content
        // stays the same.
        unsafe {
            libc::madvise(
                pages.as_ptr().cast_mut().cast(),
                pages.len(),
                libc::MADV_DONTNEED,
            );
        }
    }
}

/// Whether programs have the clock `bpf_ktime_get_coarse_ns` (Linux 5.11, bpf-helpers(7)).
fn has_coarse_clock() -> bool {
    let release = running_kernel();
    let mut numbers = release
        .split(|it: char| !it.is_ascii_digit())
        .map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5_u32, 11_u32),
        _ => false,
    }
}

/// A number that no other network namespace of this machine has (`namespaces(7)`), and
/// the same for whoever comes after this agent.
fn network_namespace() -> Result<u32, MapError> {
    let metadata = std::fs::metadata("/proc/self/ns/net").map_err(|source| MapError::System {
        call: "stat of /proc/self/ns/net",
        source,
    })?;
    Ok(u32::try_from(metadata.ino()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_map_outlives_the_agent_or_is_known_to_pass() {
        let sizes = MapSizes {
            frontends: 1,
            backends: 1,
            slots: 2,
            flows: 2,
            node_addresses: 1,
        };
        let object = object(sizes, SocketScope::default(), 0, None).unwrap();
        let names = object.maps().map(|(name, _)| name);
        let names = names.filter(|name| !name.starts_with('.'));
        let known = maps::ALL.iter().map(|map| map.name);
        assert_eq!(
            names.collect::<BTreeSet<_>>(),
            known.collect::<BTreeSet<_>>()
        );
    }
}
