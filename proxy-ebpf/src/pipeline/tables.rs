//! The maps as the pipeline sees them, and the few helpers that it calls.

use crate::flow_table::{Buckets, Claim, NewRecord, Place, Record, Round, Tag, opaque};
use crate::layout::{
    Address, Affinity, AffinityKey, Backend, Bucket, Counter, FilterBits, FlowSeed, Fragment,
    FragmentKey, Frontend, FrontendKey, KeyParts, Liveness, NewFlow, Port, Retry, Settings,
    SourceRange, Timeouts, TraceEvent, Traffic, Tuple,
};

/// The maps of one IP version, the clock, the random numbers and the counters.
///
/// The flow table's interface is `find` and `claim`; a record is updated in place.
pub trait Tables<A: Address> {
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
    /// Whether the backend at `index` answers.
    fn liveness(&self, index: u32) -> Option<Liveness>;
    /// Says so.
    fn set_liveness(&self, index: u32, liveness: &Liveness);
    /// The source port at `position` of those that translated packets may have.
    fn nat_port(&self, position: u32) -> Option<Port>;
    /// What the agent has set.
    fn settings(&self) -> Option<&Settings<A>>;

    /// How long flows are remembered.
    #[inline(always)]
    fn timeouts(&self) -> &Timeouts {
        self.settings()
            .map_or(&Timeouts::DEFAULT, |settings| &settings.timeouts)
    }

    /// What makes the places of flow records unpredictable.
    fn flow_seed(&self) -> FlowSeed;
    /// How many buckets the flow table has.
    fn buckets(&self) -> u32;
    /// The bucket with this index.
    fn bucket(&self, index: u32) -> Option<&Bucket<A>>;
    /// Leaves the flow that the stage `Claim` is to make.
    fn store_new_flow(&self, flow: &NewFlow<A>);
    /// Works on what [`Self::store_new_flow`] has left.
    fn with_new_flow<R>(&self, work: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R>;
    /// Sets bits of `FILTER`, for a flow under an address that no Service has.
    fn set_filter(&self, bits: FilterBits);

    /// Where the record under `key` is, if there is one.
    #[inline(always)]
    fn place(&self, key: &KeyParts<'_, A>) -> Place {
        Place::of(key, self.flow_seed())
    }

    /// The flow record under `key`.
    #[inline(always)]
    fn find(&self, key: &KeyParts<'_, A>) -> Option<Record<'_, A>> {
        let mut place = self.place(key);
        // One after the other by the same code: twice it takes more stack than a program has.
        let mut left = opaque::<2>();
        while left > 0 {
            let bucket = self.bucket(place.bucket(self.buckets()))?;
            let found = bucket.find(key, place.tag());
            if found.is_some() || !bucket.has_spilled() {
                return found;
            }
            place = place.second();
            left -= 1;
        }
        None
    }

    /// The index of the bucket where the record of a key with this first place is to be in this
    /// round, and of its other one.
    #[inline(always)]
    fn indices(&self, place: Place, round: Round) -> [u32; 2] {
        let buckets = self.buckets();
        round.in_order([place.bucket(buckets), place.second().bucket(buckets)])
    }

    /// Makes a flow record in one of these buckets, instead of one with the same key where `replaces`
    /// says so.
    #[inline(always)]
    fn claim(
        &self,
        [target, other]: [u32; 2],
        (round, tag): (Round, Tag),
        new: &NewRecord<'_, A>,
        timeouts: &Timeouts,
        replaces: impl FnOnce(&Record<'_, A>) -> bool,
    ) -> Claim {
        let (Some(target), Some(other)) = (self.bucket(target), self.bucket(other)) else {
            return Claim::Full;
        };
        let claim = Buckets { target, other }.claim(round, new, tag, timeouts, replaces);
        if claim == (Claim::Made { evicted: true }) {
            self.count(Counter::RecordsEvicted);
        }
        claim
    }

    /// What is remembered of a client.
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity>;
    /// Remembers it; a full table forgets somebody else.
    fn set_affinity(&self, key: &AffinityKey<A>, affinity: &Affinity);

    /// The connection of a socket with this tuple, if its SYN is sent again.
    fn retry(&self, tuple: &Tuple<A>) -> Option<Retry<A>>;

    /// What became of the first fragment of a packet.
    fn fragments(&self, key: &FragmentKey<A>) -> Option<Fragment<A>>;
    /// Remembers it; a full table forgets another packet's.
    fn insert_fragment(&self, key: &FragmentKey<A>, fragment: &Fragment<A>);

    /// Takes some ten nanoseconds, for whoever waits for another CPU.
    fn pause(&self);
    /// The time in [`crate::layout::ticks`].
    fn now(&self) -> u32;
    /// Thirty-two random bits.
    fn random(&self) -> u32;
    /// Adds to what was translated for a Service port and one of its backends.
    fn add_traffic(&self, service: u32, backend: u32, traffic: Traffic);
    /// Whether one more reset or ICMP error may be sent now, by the element of `ANSWERS` with this
    /// index ([`Answers`](crate::layout::Answers)).
    fn take_reply_token(&self, budget: u32) -> bool;
    /// Adds one to a counter.
    fn count(&self, counter: Counter);

    /// Whether somebody wants to be told of events of any of these kinds
    /// ([`trace_kinds`](crate::layout::trace_kinds)).
    fn is_traced(&self, kinds: u32) -> bool;
    /// Nanoseconds since boot.
    fn nanoseconds(&self) -> u64;
    /// Leaves an event to who listens. False if there is no room.
    fn push_event(&self, event: &TraceEvent<A>) -> bool;
}
