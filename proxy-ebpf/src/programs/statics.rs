//! The kernel's maps as statics, from the table of maps.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{
    Array, HashMap as Hash, LpmTrie as Trie, LruHashMap as LruHash, PerCpuArray, ProgramArray,
    RingBuf,
};
use proxy_ebpf::layout::{
    Affinity, AffinityKey, Allowed, Answers, Backend, Bucket, ClusterIp, CurrentSettings,
    EdgeDevice, FlowSeed, Fragment, FragmentKey, Frontend, FrontendKey, Liveness, NatPort, NewFlow,
    NodeAddress, Retry, ServiceName, Settings, SlotPair, SocketKey, SocketRecord, SourceRange,
    TraceListener, Traffic, Tuple, V4, V6, maps,
};

use crate::fib::FibLookup;

/// An array that is mapped into the agent.
type MappedArray<V> = Array<V>;

/// A ring buffer, whose size is in bytes.
#[repr(transparent)]
pub(crate) struct RingBuffer(pub(crate) RingBuf);

impl RingBuffer {
    pub(crate) const fn with_max_entries(bytes: u32, flags: u32) -> Self {
        Self(RingBuf::with_byte_size(bytes, flags))
    }
}

macro_rules! statics {
    (
        agent versions { $($agent_versions:tt)* }
        agent shared { $($agent_shared:tt)* }
        programs versions { $($programs_versions:tt)* }
        programs shared { $($programs_shared:tt)* }
    ) => {
        statics! { @shared $($agent_shared)* $($programs_shared)* }
        statics! { @versions $($agent_versions)* $($programs_versions)* }
    };
    (@shared $(
        $(#[$content:meta])* $_accessor:ident: $name:ident
            = $kind:ident($($element:ty)=>*), $_size:expr, $_lifetime:ident;
    )*) => {
        $(
            $(#[$content])*
            #[map]
            pub(crate) static $name: $kind<$($element),*> = $kind::with_max_entries(
                maps::$name.size.in_object(),
                maps::$name.kind.flags(),
            );
        )*
    };
    (@versions $(
        $(#[$content:meta])* $accessor:ident: $v4:ident $v6:ident
            = $kind:ident($($element:ty)=>*), $_size:expr, $_lifetime:ident;
    )*) => {
        /// The maps of an IP version; its address, `A`, has them.
        #[expect(dead_code, reason = "`SETTINGS_*` is read by the programs of older agents")]
        pub(crate) trait VersionMaps<A: 'static> {
            $($(#[$content])* fn $accessor() -> &'static $kind<$($element),*>;)*
        }

        statics! { @version V4 $($accessor $v4 $kind($($element)=>*))* }
        statics! { @version V6 $($accessor $v6 $kind($($element)=>*))* }
    };
    (@version $address:ident $($accessor:ident $name:ident $kind:ident($($element:ty)=>*))*) => {
        const _: () = {
            type A = $address;

            $(
                #[map]
                static $name: $kind<$($element),*> = $kind::with_max_entries(
                    maps::$name.size.in_object(),
                    maps::$name.kind.flags(),
                );
            )*

            impl VersionMaps<A> for A {
                $(
                    #[inline(always)]
                    fn $accessor() -> &'static $kind<$($element),*> {
                        &$name
                    }
                )*
            }
        };
    };
}

proxy_ebpf::for_each_map!(statics);
