//! The maps as the pipeline sees them, and the few helpers that it calls.

use core::ops::Deref;

use crate::layout::{
    Address, Affinity, AffinityKey, Backend, Counter, FilterBits, Flow, FlowKey, Fragment,
    FragmentKey, Frontend, FrontendKey, Port, Settings, SourceRange, Traffic,
};

/// How [`Tables::insert_flow`] treats a record that is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertMode {
    /// Fail with [`InsertError::Exists`].
    NoExist,
    /// Take its place, whatever the phase of its flow.
    Any,
}

/// Why a record was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InsertError {
    /// There is one.
    Exists,
    /// There is no room.
    Full,
}

/// The maps of one IP version, the clock, the random numbers and the counters.
///
/// The flow table's interface is `find`, `make` and `forget`; a record is updated in place,
/// by its atomic fields. Unestablished flows have a table of their own, so that they evict
/// only each other.
pub trait Tables<A: Address> {
    /// A flow record in place.
    type Flow<'a>: Deref<Target = Flow<A>>
    where
        Self: 'a;

    /// Whether bits of `FILTER` are set: if not, no Service is concerned.
    fn filter_matches(&self, bits: FilterBits) -> bool;
    /// The frontend under `key`.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Frontend>;
    /// Whether NodePorts answer on `address`.
    fn is_node_address(&self, address: &A) -> bool;
    /// Whether some Service has this ClusterIP.
    fn is_cluster_ip(&self, address: &A) -> bool;
    /// Whether a source is in a range that lets it in.
    fn is_allowed(&self, source: &SourceRange<A>) -> bool;
    /// The backend index in the slot at `position`.
    fn slot(&self, position: u32) -> Option<u32>;
    /// The backend at `index`.
    fn backend(&self, index: u32) -> Option<Backend<A>>;
    /// The source port at `position` of those that translated packets may have.
    fn nat_port(&self, position: u32) -> Option<Port>;
    /// What the agent has set.
    fn settings(&self) -> Option<&Settings<A>>;

    /// The flow record under `key`; that of an open flow where there are two.
    fn find(&self, key: &FlowKey<A>) -> Option<Self::Flow<'_>>;
    /// Makes a flow record, among those of flows in its phase
    /// ([`EMBRYONIC`](crate::layout::flow_flags::EMBRYONIC)).
    fn insert_flow(
        &self,
        key: &FlowKey<A>,
        flow: &Flow<A>,
        how: InsertMode,
    ) -> Result<(), InsertError>;
    /// Removes the flow records under `key`, whatever their phase.
    fn remove_flow(&self, key: &FlowKey<A>);

    /// What is remembered of a client.
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity>;
    /// Remembers it; a full table forgets somebody else.
    fn set_affinity(&self, key: &AffinityKey<A>, affinity: &Affinity);

    /// What became of the first fragment of a packet.
    fn fragments(&self, key: &FragmentKey<A>) -> Option<Fragment<A>>;
    /// Remembers it; a full table forgets another packet's.
    fn insert_fragment(&self, key: &FragmentKey<A>, fragment: &Fragment<A>);

    /// The time in [`crate::layout::ticks`].
    fn now(&self) -> u32;
    /// Thirty-two random bits.
    fn random(&self) -> u32;
    /// Adds to what was translated for a Service port and one of its backends.
    fn add_traffic(&self, service: u32, backend: u32, traffic: Traffic);
    /// Whether one more reset or ICMP error may be sent now, by
    /// [`Answers`](crate::layout::Answers).
    fn take_reply_token(&self) -> bool;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);
}
