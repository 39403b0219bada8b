//! Every map, once: [`for_each_map`](crate::for_each_map) is the table from which the
//! programs have their statics, the agent its handles, sizes and pins, and
//! `docs/ARCHITECTURE.md` its table of maps.

/// Hands the table of maps to the macro `$then`.
///
/// A row is: what the map holds; a name for its accessors; its name in the kernel (of a map
/// for each IP version, both, and `A` is its address); its [`MapKind`] with the types of its key
/// and value; its [`MapSize`]; its [`Lifetime`]. The types are named as
/// [`layout`] has them; who expands the table imports them.
///
/// [`MapKind`]: crate::layout::MapKind
/// [`MapSize`]: crate::layout::MapSize
/// [`Lifetime`]: crate::layout::Lifetime
#[macro_export]
macro_rules! for_each_map {
    ($then:ident) => {
        $then! {
            // Written by the agent, one map for each IP version.
            agent versions {
                /// (address, port, protocol) → Service port id, flags, cluster span, local
                /// span. NodePorts lie under the zero address
                frontends: FRONTENDS_V4 FRONTENDS_V6 = Hash(FrontendKey<A> => Frontend),
                    MapSize::Of(SizeSetting::Frontends), Carried;
                /// addresses on which NodePorts answer
                node_addresses: NODE_ADDRS_V4 NODE_ADDRS_V6 = Hash(A => NodeAddress),
                    MapSize::Of(SizeSetting::NodeAddresses), Carried;
                /// device → this node's address, for packets that are forwarded by it
                device_addresses: DEVICE_ADDRS_V4 DEVICE_ADDRS_V6 = Hash(u32 => A),
                    MapSize::Fixed(layout::DEVICE_ADDRESSES), Carried;
                /// ClusterIPs that some Service has, also one for which there is no room
                cluster_ips: CLUSTER_IPS_V4 CLUSTER_IPS_V6 = Hash(A => ClusterIp),
                    MapSize::Twice(SizeSetting::Frontends), Carried;
                /// (Service port id, source) that may use its load balancer addresses
                source_ranges: SOURCE_RANGES_V4 SOURCE_RANGES_V6
                    = Trie(SourceRange<A> => Allowed),
                    MapSize::Of(SizeSetting::Frontends), Carried;
                /// address, port, flags, generation, Service port id
                backends: BACKENDS_V4 BACKENDS_V6 = MappedArray(Backend<A>),
                    MapSize::Of(SizeSetting::Backends), Carried;
                /// connections and packets by backend index
                backend_traffic: BACKEND_TRAFFIC_V4 BACKEND_TRAFFIC_V6 = MappedArray(Traffic),
                    MapSize::Of(SizeSetting::Backends), Carried;
                /// whether endpoints answer new connections, by backend index
                backend_liveness: BACKEND_LIVENESS_V4 BACKEND_LIVENESS_V6 = MappedArray(Liveness),
                    MapSize::Of(SizeSetting::Backends), CarriedIfThere;
                /// node address, number of NAT ports, flags, up to two ranges of ServiceCIDRs, timeouts:
                /// for the programs of an older agent, until they are replaced
                settings: SETTINGS_V4 SETTINGS_V6 = Array(Settings<A>), MapSize::Fixed(1), Carried;
                /// the same, twice, and which of both holds: a change is whole at once
                current_settings: CURRENT_SETTINGS_V4 CURRENT_SETTINGS_V6
                    = Array(CurrentSettings<A>), MapSize::Fixed(1), CarriedIfThere;
            }
            // Written by the agent, for both IP versions.
            agent shared {
                /// which destinations at ingress, and sources with their ports at egress, may
                /// concern a Service
                /// ([why, and until when](adr/0016-a-filter-in-front-of-all-lookups.md))
                filter: FILTER = MappedArray(u64), MapSize::Fixed(layout::FILTER_WORDS),
                    CarriedIfThere;
                /// backend indices, two in an element
                slots: SLOTS = MappedArray(SlotPair), MapSize::Half(SizeSetting::Slots), Carried;
                /// a random number, by which flows have their places
                flow_seed: FLOW_SEED = Array(FlowSeed), MapSize::Fixed(1), Carried;
                /// source ports that translated packets may have
                nat_ports: NAT_PORTS = MappedArray(NatPort), MapSize::Fixed(layout::NAT_PORTS),
                    Carried;
                /// connections and packets by Service port id. Each port has a frontend, and one
                /// that is replaced has its id for a moment more
                service_traffic: SERVICE_TRAFFIC = MappedArray(Traffic),
                    MapSize::Twice(SizeSetting::Frontends), Carried;
                /// Service port id → its name for people, "namespace/name:port"; no program reads it
                service_names: SERVICE_NAMES = Hash(u32 => ServiceName),
                    MapSize::Twice(SizeSetting::Frontends), CarriedIfThere;
                /// ids of the cgroups of Pods that opted out
                left_out: LEFT_OUT = Hash(u64 => u32), MapSize::Fixed(layout::LEFT_OUT_PODS),
                    Carried;
                /// the levels at which these cgroups are
                left_out_levels: LEFT_OUT_LEVELS = Array(u32), MapSize::Fixed(1), Carried;
                /// device → the addresses that frames for this host have there, its own and its
                /// bridge's, and whether XDP can send packets back by it, or redirect them to it
                edge_devices: EDGE_DEVICES = Hash(u32 => EdgeDevice),
                    MapSize::Fixed(layout::EDGE_DEVICES), Passing;
            }
            // Written by the programs, one map for each IP version.
            programs versions {
                /// buckets of flow records: tuple, protocol and hook → tuple that it becomes,
                /// backend, generation, state, last seen
                /// ([how](adr/0017-a-flow-table-of-our-own.md))
                flows: FLOWS_V4 FLOWS_V6 = MappedArray(Bucket<A>),
                    MapSize::Buckets(SizeSetting::Flows), FilledByPackets;
                /// (client, Service port id) → the backend of its last connection, its
                /// generation, when
                affinity: AFFINITY_V4 AFFINITY_V6 = LruHash(AffinityKey<A> => Affinity),
                    MapSize::Half(SizeSetting::Flows), FilledByPackets;
                /// cookie of a socket → frontend and endpoint, of connected ones; (cookie,
                /// endpoint) → frontend and back, of datagrams without connection; cookie →
                /// frontend of the last such flow. Until the socket is closed
                sockets: SOCKETS_V4 SOCKETS_V6 = LruHash(SocketKey<A> => SocketRecord<A>),
                    MapSize::Of(SizeSetting::Flows), FilledBySockets;
                /// tuple of a socket's connection whose endpoint has not answered → its frontend,
                /// that endpoint, its SYN
                retries: RETRIES_V4 RETRIES_V6 = LruHash(Tuple<A> => Retry<A>),
                    MapSize::Fixed(layout::RETRIES), Anew;
                /// a packet in fragments → the addresses that its first one got
                fragments: FRAGMENTS_V4 FRAGMENTS_V6 = LruHash(FragmentKey<A> => Fragment<A>),
                    MapSize::Fixed(layout::FRAGMENTS), Carried;
                /// the flow that the next stage is to make
                new_flow: NEW_FLOW_V4 NEW_FLOW_V6 = PerCpuArray(NewFlow<A>), MapSize::Fixed(1),
                    Anew;
                /// the ends of the tunnel that the next stage, maybe the next agent's already, is
                /// to send a packet by
                tunnel: TUNNEL_V4 TUNNEL_V6 = PerCpuArray(Tuple<A>), MapSize::Fixed(1), Anew;
            }
            // Written by the programs, for both IP versions.
            programs shared {
                /// drops and oddities by reason
                counters: COUNTERS = PerCpuArray(u64), MapSize::OneEach(layout::COUNTERS), Anew;
                /// resets and ICMP errors sent in this second, by kind, to Pods and to others
                answers: ANSWERS = PerCpuArray(Answers), MapSize::Fixed(layout::ANSWERS), Anew;
                /// room for a FIB lookup, which the stack has not
                lookup: LOOKUP = PerCpuArray(FibLookup), MapSize::Fixed(1), Passing;
                /// what a `proxy-agent trace` wants to be told, and until when; it writes that itself
                trace_listener: TRACE_LISTENER = Array(TraceListener), MapSize::Fixed(1), Anew;
                /// new flows, drops and refusals, while somebody listens
                trace_events: TRACE_EVENTS = RingBuffer(), MapSize::Bytes(layout::TRACE_BYTES),
                    Anew;
                /// what the hooks' programs call
                stages: STAGES = ProgramArray(), MapSize::OneEach(layout::STAGES), Anew;
            }
        }
    };
}

#[cfg(test)]
mod docs;

use super::{self as layout, Lifetime, MapKind, MapSize, MapSpec, SizeSetting};

macro_rules! describe {
    ($(
        $_writer:ident $_scope:ident {
            $(
                $(#[doc = $content:literal])+ $_accessor:ident: $($name:ident)+
                    = $kind:ident($($_element:ty)=>*), $size:expr, $lifetime:ident;
            )*
        }
    )*) => {
        $($($(
            #[doc = concat!("`", stringify!($name), "`")]
            pub const $name: MapSpec = MapSpec {
                name: stringify!($name),
                kind: MapKind::$kind,
                size: $size,
                lifetime: Lifetime::$lifetime,
            };
        )+)*)*

        /// All of them.
        pub const ALL: &[MapSpec] = &[$($($($name,)+)*)*];

        /// The names of each, or of the two of a kind, and what they hold.
        #[cfg(test)]
        const CONTENT: &[(&[&str], MapSpec, &str)] = &[$($(
            (&[$(stringify!($name)),+], [$($name),+][0], concat!($($content),+)),
        )*)*];
    };
}

crate::for_each_map!(describe);
