//! The maps in memory.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

use super::shared::{Call, Shared};
use crate::flow_table::Record;
use crate::layout::{
    Address, Affinity, AffinityKey, Backend, Bucket, Counter, CurrentSettings, FilterBits, FlowKey,
    FlowSeed, Fragment, FragmentKey, Frontend, FrontendKey, Liveness, NewFlow, Port, Retry,
    Settings, SocketKey, SocketRecord, SourceRange, Timeouts, TraceEvent, Traffic, Tuple, ticks,
};
use crate::pipeline::{MasqueradeSource, SocketTables, Tables};

/// Buckets of a flow table where nobody says how many.
const BUCKETS: u32 = 1 << 12;

/// The maps of one IP version.
pub struct Memory<A> {
    /// `FRONTENDS_*`
    pub frontends: HashMap<FrontendKey<A>, Frontend>,
    /// `NODE_ADDRS_*`
    pub node_addresses: HashSet<A>,
    /// `DEVICE_ADDRS_*`
    pub device_addresses: HashMap<u32, A>,
    /// By which device packets leave for an endpoint: by none that is known, unless these are the
    /// maps of a host that has routes.
    pub output_device: Rc<dyn Fn(A) -> Option<u32>>,
    /// `BACKENDS_*`
    pub backends: BTreeMap<u32, Backend<A>>,
    /// `SETTINGS_*`; here the programs read these.
    pub settings: Settings<A>,
    /// `CURRENT_SETTINGS_*`
    pub current_settings: CurrentSettings<A>,
    /// `FLOWS_*`; a bucket takes memory when it is asked for.
    pub flows: Vec<OnceCell<Box<Bucket<A>>>>,
    /// What is in a bucket before, by its index: nothing, unless it is a copy of another table.
    pub read_bucket: Box<dyn Fn(u32) -> Bucket<A>>,
    /// `NEW_FLOW_*`
    pub new_flow: RefCell<NewFlow<A>>,
    /// The bits of `FILTER` that programs have set.
    pub flow_bits: RefCell<HashSet<FilterBits>>,
    /// `CLUSTER_IPS_*`
    pub cluster_ips: HashSet<A>,
    /// `SOURCE_RANGES_*`, with the length of each prefix in bits.
    pub source_ranges: HashSet<(u32, SourceRange<A>)>,
    /// `AFFINITY_*`
    pub affinity: RefCell<HashMap<AffinityKey<A>, Affinity>>,
    /// `BACKEND_TRAFFIC_*`
    pub backend_traffic: RefCell<BTreeMap<u32, Traffic>>,
    /// `BACKEND_LIVENESS_*`
    pub backend_liveness: RefCell<BTreeMap<u32, Liveness>>,
    /// `FRAGMENTS_*`
    pub fragments: RefCell<HashMap<FragmentKey<A>, Fragment<A>>>,
    /// `RETRIES_*`
    pub retries: RefCell<HashMap<Tuple<A>, Retry<A>>>,
    /// `SOCKETS_*`
    pub sockets: RefCell<HashMap<SocketKey<A>, SocketRecord<A>>>,
    /// `TRACE_EVENTS`
    pub trace_events: RefCell<Vec<TraceEvent<A>>>,
    /// What both IP versions share.
    pub shared: Rc<Shared>,
}

impl<A: Address> Default for Memory<A> {
    fn default() -> Self {
        Self {
            frontends: HashMap::default(),
            node_addresses: HashSet::default(),
            device_addresses: HashMap::default(),
            output_device: Rc::new(|_| None),
            backends: BTreeMap::default(),
            settings: Settings {
                timeouts: Timeouts::DEFAULT,
                ..Settings::default()
            },
            current_settings: CurrentSettings::default(),
            flows: buckets(BUCKETS),
            read_bucket: Box::new(|_| Bucket::default()),
            new_flow: RefCell::default(),
            flow_bits: RefCell::default(),
            cluster_ips: HashSet::default(),
            source_ranges: HashSet::default(),
            affinity: RefCell::default(),
            backend_traffic: RefCell::default(),
            backend_liveness: RefCell::default(),
            fragments: RefCell::default(),
            retries: RefCell::default(),
            sockets: RefCell::default(),
            trace_events: RefCell::default(),
            shared: Rc::default(),
        }
    }
}

fn buckets<A: Address>(count: u32) -> Vec<OnceCell<Box<Bucket<A>>>> {
    (0..count).map(|_| OnceCell::new()).collect()
}

impl<A: Address> Memory<A> {
    /// Every flow record.
    pub fn records(&self) -> impl Iterator<Item = Record<'_, A>> {
        let buckets = self.flows.iter().filter_map(OnceCell::get);
        buckets.flat_map(|bucket| bucket.records())
    }

    /// Removes a flow record, as if another one had taken its way.
    pub fn remove(&self, key: &FlowKey<A>) {
        for bucket in self.flows.iter().filter_map(OnceCell::get) {
            bucket.remove(key);
        }
    }

    /// Begins a claim of this way in each bucket that nobody ends.
    pub fn abandon_claim(&self, way: usize) {
        for bucket in &self.flows {
            let bucket = bucket.get_or_init(Box::default);
            bucket.abandon_claim(way);
        }
    }

    /// Frees what [`Self::abandon_claim`] has begun.
    pub fn end_claims(&self) {
        for bucket in self.flows.iter().filter_map(OnceCell::get) {
            bucket.free_abandoned(bucket.tags.load());
        }
    }

    /// Empties the flow table, and gives it so many buckets.
    pub fn set_buckets(&mut self, count: u32) {
        self.flows = buckets(count);
    }
}

impl<A> Memory<A> {
    /// The value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.shared
            .counters
            .borrow()
            .get(counter.name())
            .copied()
            .unwrap_or(0)
    }
}

impl<A: Address> Memory<A> {
    /// Notes a call of the kernel.
    fn call(&self, call: Call) {
        *self.shared.calls.borrow_mut().entry(call).or_default() += 1;
    }

    /// The bits of `FILTER` that are needed for what there is besides flows.
    fn filter_bits(&self) -> impl Iterator<Item = FilterBits> {
        let frontends = self.frontends.keys().map(|key| key.address);
        let addresses = frontends
            .filter(|address| *address != A::default())
            .chain(self.node_addresses.iter().copied())
            .chain(self.cluster_ips.iter().copied())
            .chain([self.settings.node_address]);
        // Connections of this node from ports at which Services are reached.
        let own = self.frontends.keys().flat_map(|key| {
            let addresses = self.node_addresses.iter().copied();
            addresses.filter_map(|address| {
                let is_here = key.address == A::default() || key.address == address;
                is_here.then(|| FilterBits::of_source(&address, key.port))
            })
        });
        let flows = self.records().map(|record| record.key.filter());
        let backends = self.backends.values();
        backends
            .map(|it| FilterBits::of_source(&it.address, it.port))
            .chain(own)
            .chain(flows)
            .chain(addresses.map(|it| FilterBits::of_destination(&it)))
    }
}

fn add(map: &RefCell<BTreeMap<u32, Traffic>>, at: u32, more: Traffic) {
    // No array has so many elements.
    if at == u32::MAX {
        return;
    }
    let mut map = map.borrow_mut();
    let traffic = map.entry(at).or_default();
    traffic.connections += more.connections;
    traffic.packets += more.packets;
}

/// Whether two agree in their first `prefix` bits, as they lie in memory.
fn matches<A: Address>(prefix: u32, range: &SourceRange<A>, source: &SourceRange<A>) -> bool {
    let words = |it: &SourceRange<A>| {
        let mut words = vec![it.service];
        words.extend_from_slice(it.source.words());
        words
    };
    let mut left = prefix;
    words(range).iter().zip(words(source)).all(|(a, b)| {
        let bits = left.min(32);
        left -= bits;
        let difference = u32::from_be(a ^ b);
        difference.checked_shr(32 - bits).unwrap_or(0) == 0
    })
}

impl<A: Address> Tables<A> for Memory<A> {
    fn filter_matches(&self, bits: FilterBits) -> bool {
        self.call(Call::Array);
        if let Some(word) = self.shared.filter_words.borrow().get(bits.word as usize) {
            return bits.are_in(*word);
        }
        match &*self.shared.filter.borrow() {
            Some(kept) => kept.contains(&bits),
            None => {
                self.flow_bits.borrow().contains(&bits) || self.filter_bits().any(|it| it == bits)
            }
        }
    }

    fn frontend(&self, key: &FrontendKey<A>) -> Option<Frontend> {
        self.call(Call::Lookup);
        self.frontends.get(key).copied()
    }

    fn is_node_address(&self, address: &A) -> bool {
        self.call(Call::Lookup);
        self.node_addresses.contains(address)
    }

    fn is_cluster_ip(&self, address: &A) -> bool {
        self.call(Call::Lookup);
        self.cluster_ips.contains(address)
    }

    fn is_allowed(&self, source: &SourceRange<A>) -> bool {
        self.call(Call::Lookup);
        self.source_ranges
            .iter()
            .any(|(prefix, range)| matches(*prefix, range, source))
    }

    fn slot(&self, position: u32) -> Option<u32> {
        self.call(Call::Array);
        // Like an array in the kernel, unwritten elements are zero.
        Some(
            self.shared
                .slots
                .borrow()
                .get(&position)
                .copied()
                .unwrap_or(0),
        )
    }

    fn backend(&self, index: u32) -> Option<Backend<A>> {
        self.call(Call::Array);
        Some(self.backends.get(&index).copied().unwrap_or_default())
    }

    fn liveness(&self, index: u32) -> Option<Liveness> {
        self.call(Call::Array);
        let liveness = self.backend_liveness.borrow().get(&index).copied();
        Some(liveness.unwrap_or_default())
    }

    fn set_liveness(&self, index: u32, liveness: &Liveness) {
        self.call(Call::Array);
        self.backend_liveness.borrow_mut().insert(index, *liveness);
    }

    fn settings(&self) -> Option<&Settings<A>> {
        self.call(Call::Array);
        Some(&self.settings)
    }

    fn nat_port(&self, position: u32) -> Option<Port> {
        self.call(Call::Array);
        let ports = self.shared.nat_ports.borrow();
        ports.get(usize::try_from(position).ok()?).copied()
    }

    fn flow_seed(&self) -> FlowSeed {
        self.shared.flow_seed.get()
    }

    fn pause(&self) {}

    fn buckets(&self) -> u32 {
        u32::try_from(self.flows.len()).unwrap_or(u32::MAX)
    }

    fn bucket(&self, index: u32) -> Option<&Bucket<A>> {
        self.call(Call::Array);
        let bucket = self.flows.get(index as usize)?;
        Some(bucket.get_or_init(|| Box::new((self.read_bucket)(index))))
    }

    fn store_new_flow(&self, flow: &NewFlow<A>) {
        self.call(Call::Array);
        *self.new_flow.borrow_mut() = *flow;
    }

    fn with_new_flow<R>(&self, work: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R> {
        self.call(Call::Array);
        Some(work(&mut self.new_flow.borrow_mut()))
    }

    fn set_filter(&self, bits: FilterBits) {
        self.call(Call::Array);
        self.flow_bits.borrow_mut().insert(bits);
        if let Some(kept) = &mut *self.shared.filter.borrow_mut() {
            kept.insert(bits);
        }
        let mut words = self.shared.filter_words.borrow_mut();
        if let Some(word) = words.get_mut(bits.word as usize) {
            *word |= bits.mask;
        }
    }

    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity> {
        self.call(Call::Lookup);
        self.affinity.borrow().get(key).copied()
    }

    fn set_affinity(&self, key: &AffinityKey<A>, affinity: &Affinity) {
        self.call(Call::Update);
        self.affinity.borrow_mut().insert(*key, *affinity);
    }

    fn retry(&self, tuple: &Tuple<A>) -> Option<Retry<A>> {
        self.call(Call::Lookup);
        self.retries.borrow().get(tuple).copied()
    }

    fn fragments(&self, key: &FragmentKey<A>) -> Option<Fragment<A>> {
        self.call(Call::Lookup);
        self.fragments.borrow().get(key).copied()
    }

    fn insert_fragment(&self, key: &FragmentKey<A>, fragment: &Fragment<A>) {
        self.call(Call::Update);
        self.fragments.borrow_mut().insert(*key, *fragment);
    }

    fn now(&self) -> u32 {
        self.call(Call::Clock);
        self.shared.now.get()
    }

    fn random(&self) -> u32 {
        self.call(Call::Random);
        // xorshift (Marsaglia 2003): repeatable, and never 0 from a seed that is not.
        let mut x = self.shared.random.get();
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        self.shared.random.set(x);
        x
    }

    fn add_traffic(&self, service: u32, backend: u32, traffic: Traffic) {
        self.call(Call::Array);
        self.call(Call::Array);
        add(&self.shared.service_traffic, service, traffic);
        add(&self.backend_traffic, backend, traffic);
    }

    fn take_reply_token(&self, budget: u32) -> bool {
        self.call(Call::Array);
        self.call(Call::Clock);
        let mut all = self.shared.answers.borrow_mut();
        let answers = all.get_mut(budget as usize);
        answers.is_some_and(|answers| answers.take(self.shared.now.get()))
    }

    fn count(&self, counter: Counter) {
        *self
            .shared
            .counters
            .borrow_mut()
            .entry(counter.name())
            .or_default() += 1;
    }

    fn is_traced(&self, kinds: u32) -> bool {
        self.call(Call::Array);
        let listener = self.shared.trace_listener.get();
        listener.wants(kinds, || self.shared.now.get())
    }

    fn nanoseconds(&self) -> u64 {
        u64::from(self.shared.now.get()) << ticks::SHIFT
    }

    fn push_event(&self, event: &TraceEvent<A>) -> bool {
        let mut events = self.trace_events.borrow_mut();
        let has_room = events.len() < self.shared.trace_room.get();
        if has_room {
            events.push(*event);
        }
        has_room
    }
}

impl<A: Address> MasqueradeSource<A> for Memory<A> {
    fn source(&self, _: &A, endpoint: &A) -> Option<&A> {
        self.device_addresses.get(&(self.output_device)(*endpoint)?)
    }
}

impl<A: Address> SocketTables<A> for Memory<A> {
    fn socket(&self, key: &SocketKey<A>) -> Option<SocketRecord<A>> {
        self.call(Call::Lookup);
        self.sockets.borrow().get(key).copied()
    }

    fn insert_socket(&self, key: &SocketKey<A>, record: &SocketRecord<A>) {
        self.call(Call::Update);
        self.sockets.borrow_mut().insert(*key, *record);
    }

    fn insert_retry(&self, tuple: &Tuple<A>, retry: &Retry<A>) {
        self.call(Call::Update);
        self.retries.borrow_mut().insert(*tuple, *retry);
    }

    fn remove_socket(&self, key: &SocketKey<A>) {
        self.call(Call::Delete);
        self.sockets.borrow_mut().remove(key);
    }
}
