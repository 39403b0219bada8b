//! What follows from the table of maps: handles of those that the agent writes, and the
//! operations on them, in the kernel and in memory.

use proxy_ebpf::layout::{
    Allowed, Backend, ClusterIp, CurrentSettings, EdgeDevice, FlowSeed, Frontend, FrontendKey,
    Liveness, NatPort, NodeAddress, ServiceName, Settings, SlotPair, SourceRange, Traffic, V4, V6,
    maps,
};

use super::MapError;
use super::elements::{Indexed, Keyed};
use super::handles::{Array, Hash, MapSource, Open, Trie};
use super::mapped::MappedArray;

/// The operations on a kind of map.
macro_rules! operations {
    (Hash($key:ty => $value:ty)) => { impl Keyed<$key, $value> };
    (Trie($key:ty => $value:ty)) => { impl Keyed<(u32, $key), $value> };
    (Array($value:ty)) => { impl Indexed<$value> };
    (MappedArray($value:ty)) => { impl Indexed<$value> };
}

macro_rules! written_by_the_agent {
    (
        agent versions {$(
            $(#[$content:meta])* $field:ident: $v4:ident $v6:ident
                = $kind:ident($($element:ty)=>*), $_size:expr, $_lifetime:ident;
        )*}
        agent shared {$(
            $(#[$shared_content:meta])* $shared:ident: $name:ident
                = $shared_kind:ident($($shared_element:ty)=>*),
                $_shared_size:expr, $_shared_lifetime:ident;
        )*}
        $($_programs:tt)*
    ) => {
        /// The maps of one IP version.
        pub(super) trait FamilyElements<A> {
            $($(#[$content])* fn $field(&mut self) -> &mut operations!($kind($($element)=>*));)*
        }

        #[cfg(feature = "test-util")]
        impl<A: proxy_ebpf::layout::Address> FamilyElements<A> for proxy_ebpf::host::Memory<A> {
            $(
                fn $field(&mut self) -> &mut operations!($kind($($element)=>*)) {
                    &mut self.$field
                }
            )*
        }

        /// The maps of one IP version in the kernel.
        pub(super) struct FamilyMaps<A> {
            $($(#[$content])* pub(super) $field: $kind<$($element),*>,)*
        }

        written_by_the_agent! { @version V4 $($field: $v4 = $kind($($element)=>*);)* }
        written_by_the_agent! { @version V6 $($field: $v6 = $kind($($element)=>*);)* }

        /// The maps for both IP versions in the kernel.
        pub(super) struct SharedMaps {
            $($(#[$shared_content])* pub(super) $shared: $shared_kind<$($shared_element),*>,)*
        }

        impl SharedMaps {
            /// Opens them.
            pub(super) fn open(from: &mut impl MapSource) -> Result<Self, MapError> {
                Ok(Self { $($shared: Open::open(from, maps::$name)?,)* })
            }
        }
    };
    (
        @version $address:ident $(
            $field:ident: $name:ident = $kind:ident($($element:ty)=>*);
        )*
    ) => {
        const _: () = {
            type A = $address;

            impl FamilyMaps<A> {
                /// Opens them.
                pub(super) fn open(from: &mut impl MapSource) -> Result<Self, MapError> {
                    Ok(Self { $($field: Open::open(from, maps::$name)?,)* })
                }
            }

            impl FamilyElements<A> for FamilyMaps<A> {
                $(
                    fn $field(&mut self) -> &mut operations!($kind($($element)=>*)) {
                        &mut self.$field
                    }
                )*
            }
        };
    };
}

proxy_ebpf::for_each_map!(written_by_the_agent);
