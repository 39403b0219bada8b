//! A node: its namespaces, the programs and their pinned maps, and an agent that writes to these
//! what a random set of Services asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use aya::programs::{TestRun as _, TestRunOptions};
use proxy_agent::agent::Agent;
use proxy_agent::attach::{OutputDevices, SocketPath, scope};
use proxy_agent::config::{Settings, SocketPathMode};
use proxy_agent::inspect::State;
use proxy_agent::inspect::explain::{Copies, Explanation, Question, explain, know_routes};
use proxy_agent::maps::{Loaded, MapError, MapSizes, Maps, PinnedMaps, Pins, ProgramName, load};
use proxy_agent::model::object::Family;
use proxy_agent::plan::Write;
use proxy_ebpf::layout::{Counter, EdgeDevice, LinkAddress, xdp_device_flags};
use proxy_tests::lab::{Bpffs, Cgroup, Directory, Namespace};
use proxy_tests::packets::{Choices, LINK_ADDRESS, NEIGHBOUR, noise};

use crate::objects::{NODES, PODS, SERVICES, Services, THIS, address, beginning};

const SIZES: MapSizes = MapSizes {
    frontends: 1024,
    backends: 1024,
    slots: 262_144,
    flows: 4096,
    node_addresses: 16,
};

/// Writes that wait to be made.
#[derive(Default)]
struct Written(Vec<Write>);

impl Maps for Written {
    fn write(&mut self, write: &Write) -> Result<(), MapError> {
        self.0.push(write.clone());
        Ok(())
    }
}

/// The namespaces, the cgroup and the file system of pins: what outlives the node.
pub(crate) struct Place {
    pub(crate) host: Namespace,
    pub(crate) pod: Namespace,
    cgroup: Arc<Cgroup>,
    bpffs: Bpffs,
    _directory: Directory,
}

impl Place {
    /// A host and a Pod, each of which has a route to everywhere, by a device that leads nowhere.
    pub(crate) fn new() -> Result<Self> {
        let directory = Directory::create()?;
        let cgroup = Arc::new(Cgroup::create(directory.name())?);
        let namespaces = Namespace::create(directory.name(), &["host", "pod"])?;
        let [mut host, mut pod] = <[_; 2]>::try_from(namespaces).ok().context("two")?;
        for (namespace, network, number) in [(&mut host, NODES, THIS), (&mut pod, PODS, 2)] {
            let [v4, v6] = Family::ALL.map(|family| address(family, network, number));
            namespace.sysctl("net/ipv4/conf/all/forwarding", "1")?;
            namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
            let commands = [
                "link add nowhere type veth peer name cable-end".to_owned(),
                "link set cable-end up".to_owned(),
                "link set nowhere address 02:00:00:00:00:01 up".to_owned(),
                "address add 8.0.255.1/30 dev nowhere".to_owned(),
                "address add fd00:0:86dd:255::1/64 dev nowhere nodad".to_owned(),
                format!("address add {v4}/32 dev nowhere"),
                format!("address add {v6}/128 dev nowhere nodad"),
                "neighbour add 8.0.255.2 lladdr 02:00:00:00:00:02 dev nowhere".to_owned(),
                "neighbour add fd00:0:86dd:255::2 lladdr 02:00:00:00:00:02 dev nowhere".to_owned(),
                format!("route add default via 8.0.255.2 src {v4}"),
                format!("route add ::/0 via fd00:0:86dd:255::2 src {v6}"),
            ];
            namespace.ip(&commands)?;
            namespace.join(&cgroup);
        }
        Ok(Self {
            host,
            pod,
            cgroup,
            bpffs: Bpffs::new()?,
            _directory: directory,
        })
    }
}

/// The node. Everything is done in the host's namespace.
pub(crate) struct TestNode {
    kernel: Loaded,
    agent: Agent<Written>,
    pinned: PinnedMaps,
    copies: Copies,
    pub(crate) services: Services,
    /// The programs at sockets, while they are attached.
    sockets: Option<SocketPath>,
    _pins: Pins,
}

impl TestNode {
    /// A node whose Services follow from `seed`.
    pub(crate) fn new(place: &Place, seed: u64) -> Result<Self> {
        let bpffs = place.bpffs.path();
        let pins = Pins::open(&bpffs)?;
        let scope = scope(SocketPathMode::On)?;
        let kernel = load(SIZES, scope, Some(&pins)).context("load the programs")?;
        let mut settings = Settings::default();
        settings.own.maps = SIZES;
        settings.own.external_ips = ["8.0.10.0/24", "fd00:0:86dd:a::/64"]
            .map(|it| it.parse().expect("a range"))
            .to_vec();
        let mut pinned = PinnedMaps::open(&bpffs)?;
        let mut node = Self {
            kernel,
            agent: Agent::new("here", &settings, Written::default()),
            copies: pinned.memory()?,
            pinned,
            services: Services::default(),
            sockets: None,
            _pins: pins,
        };
        node.agent.apply(beginning());
        let noise = noise(seed, 4096);
        let mut choices = Choices::new(&noise);
        for number in 0..SERVICES {
            let changes = node.services.replace(number, &mut choices);
            node.agent.apply(changes);
        }
        node.write()?;
        node.kernel.xdp()?.load()?;
        for (device, ways) in [
            (c"lo", xdp_device_flags::TX),
            (c"nowhere", xdp_device_flags::REDIRECT),
        ] {
            let known = EdgeDevice {
                xdp: ways,
                addresses: [LINK_ADDRESS, NEIGHBOUR].map(LinkAddress::from),
            };
            let index = index_of(device)?;
            node.kernel.edge_devices.set(index, Some(known))?;
        }
        Ok(node)
    }

    /// Replaces some Services, or their endpoints.
    pub(crate) fn change(&mut self, choices: &mut Choices<'_>) -> Result<()> {
        for _ in 0..6 {
            let number = choices.byte() % SERVICES;
            let changes = self.services.replace(number, choices);
            self.agent.apply(changes);
        }
        self.write()
    }

    /// Tells the agent which addresses the device has by which packets leave.
    pub(crate) fn know_devices(&mut self) -> Result<()> {
        let addresses = Family::ALL.map(|family| address(family, u8::MAX, 1));
        let devices = BTreeMap::from([(index_of(c"nowhere")?, addresses.to_vec())]);
        self.agent.set_local_addresses(devices);
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        self.agent.program();
        while let Some(retired) = self.agent.take_retired() {
            self.agent.reclaim(retired);
        }
        for write in std::mem::take(&mut self.agent.maps_mut().0) {
            self.kernel.maps.write(&write)?;
        }
        Ok(())
    }

    /// What `explain` says.
    pub(crate) fn explain(&mut self, question: Question, state: &State) -> Result<Explanation> {
        self.pinned.refresh(&mut self.copies)?;
        let Self { pinned, copies, .. } = self;
        Ok(explain(question, state, copies, |it| pinned.refresh(it))?)
    }

    /// What an operator's command reads before it explains.
    pub(crate) fn state(&mut self) -> Result<State> {
        self.copies = self.pinned.memory()?;
        let devices = OutputDevices::open()?;
        know_routes(&mut self.copies, move |to| devices.towards(to));
        Ok(State::read(&mut self.pinned)?)
    }

    /// Attaches the programs at sockets to the cgroup of the place.
    pub(crate) fn serve_sockets(&mut self, place: &Place) -> Result<()> {
        let cgroup = Some(place.cgroup.path());
        let sockets = SocketPath::attach(&mut self.kernel.programs, cgroup, None, None)?;
        self.sockets = Some(sockets);
        Ok(())
    }

    /// The names of the counters that give reasons, of those that are counted by `work`.
    pub(crate) fn reasons<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<(T, BTreeSet<&'static str>)> {
        let before = self.pinned.counters()?;
        let done = work(self)?;
        let after = self.pinned.counters()?;
        let grown = before
            .iter()
            .zip(&after)
            .filter(|(one, two)| one.1 != two.1);
        let is_reason = |counter: &Counter| {
            !matches!(
                counter,
                Counter::FlowsCreated | Counter::XdpPass | Counter::XdpTransmit
            )
        };
        let reasons = grown.map(|(one, _)| one.0).filter(is_reason);
        Ok((done, reasons.map(Counter::name).collect()))
    }

    /// How many flows were made.
    pub(crate) fn flows_made(&mut self) -> Result<u64> {
        Ok(self.kernel.maps.counter(Counter::FlowsCreated)?)
    }

    /// Runs a packet through a program of TC: what that returns, and the packet.
    pub(crate) fn run_tc(&mut self, name: ProgramName, bytes: &[u8]) -> Result<(i32, Vec<u8>)> {
        let mut out = vec![0; bytes.len() + 128];
        let result = self.kernel.program(name)?.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value.cast_signed(), out))
    }

    /// The same of XDP.
    pub(crate) fn run_xdp(&mut self, bytes: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut out = vec![0; bytes.len() + 128];
        let result = self.kernel.xdp()?.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}

/// Index of a device of this namespace.
#[expect(unsafe_code, reason = "std does not know of devices")]
fn index_of(device: &CStr) -> Result<u32> {
    // SAFETY: a string with its end.
    match unsafe { libc::if_nametoindex(device.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("device {device:?}")),
        index => Ok(index),
    }
}
