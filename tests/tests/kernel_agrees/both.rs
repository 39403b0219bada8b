//! The programs in the kernel beside the pipeline in memory.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use proxy_agent::maps::{
    FakeMaps, FilterRepairs, Loaded, MapSizes, Maps as _, ProgramName, Readable as _, RecordTables,
    SocketScope, load,
};
use proxy_agent::model::object;
use proxy_agent::plan::{FrontendId, Write};
use proxy_ebpf::host::{self, Action, Frame, Link};
use proxy_ebpf::layout::{
    Counter, EdgeDevice, LinkAddress, MapSize, Range, XdpDeviceFlags, settings_flags, ticks,
    xdp_device_flags,
};
use proxy_ebpf::pipeline::Client;
use proxy_tests::clock;
use proxy_tests::lab::{Directory, Family, Namespace};
use proxy_tests::packets::{Hook, LINK_ADDRESS, NEIGHBOUR, Outcome, Scenario, address};

use super::writes::writes;

/// What `BPF_PROG_TEST_RUN` returns: `TCX_NEXT`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`.
const NEXT: i32 = -1;
const SHOT: i32 = 2;
const REDIRECT: i32 = 7;

/// What XDP returns: `XDP_DROP`, `XDP_PASS`, `XDP_TX`, `XDP_REDIRECT`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// Both Ethernet addresses of what XDP sends to the gateway.
const TO_GATEWAY: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

/// What a device's packets start with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// An Ethernet header.
    Ethernet,
    /// The same, with XDP in front of TC where packets come from outside; XDP sends
    /// nothing.
    XdpThatPasses,
    /// The same, and XDP sends packets on and back.
    XdpThatSends,
    /// IP. In a test run the kernel takes what lies at bytes 12 and 13 for the
    /// EtherType, and lets the program begin at byte 0; the tests' addresses are
    /// such that it is the right one.
    Ip,
}

/// A device to whose address the tests' frames are.
fn own(xdp: XdpDeviceFlags) -> EdgeDevice {
    EdgeDevice {
        xdp,
        addresses: [LINK_ADDRESS, NEIGHBOUR].map(LinkAddress::from),
    }
}

/// The same maps twice.
pub(crate) struct Both {
    kernel: Loaded,
    host: FakeMaps,
    device: Device,
}

/// What the kernel takes for a test run at least: since Linux 6.18 an Ethernet
/// header and an IP header of the version that the `EtherType` names
/// (`bpf_prog_test_run_skb` in `net/bpf/test_run.c`).
pub(crate) const SHORTEST: usize = 14 + 40;

/// Runs a test where every packet has a route, to a gateway by a device that leads
/// nowhere.
pub(crate) fn in_a_namespace(work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let directory = Directory::create()?;
    let namespaces = Namespace::create(directory.name(), &["run"])?;
    let namespace = &namespaces[0];
    namespace.sysctl("net/ipv4/conf/all/forwarding", "1")?;
    namespace.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let commands = [
        "link add nowhere type veth peer name cable-end",
        "link set cable-end up",
        "link set nowhere address 02:00:00:00:00:01 up",
        "address add 8.0.255.1/30 dev nowhere",
        "address add fd00:0:86dd:255::1/64 dev nowhere nodad",
        "neighbour add 8.0.255.2 lladdr 02:00:00:00:00:02 dev nowhere",
        "neighbour add fd00:0:86dd:255::2 lladdr 02:00:00:00:00:02 dev nowhere",
        "route add default via 8.0.255.2",
        "route add ::/0 via fd00:0:86dd:255::2",
    ];
    namespace.ip(&commands.map(String::from))?;
    namespace.run(work)?
}

impl Both {
    /// Loads the programs, for packets of this kind of device, and writes the scenario's
    /// content to both sides.
    pub(crate) fn new(scenario: &Scenario, device: Device) -> Result<Self> {
        Self::with_flows(scenario, device, 65_536)
    }

    /// The same, with room for so many flow records in the kernel.
    pub(crate) fn with_flows(scenario: &Scenario, device: Device, flows: u32) -> Result<Self> {
        let sizes = MapSizes {
            frontends: 256,
            backends: 256,
            slots: 1024,
            flows,
            node_addresses: 16,
        };
        let mut both = Self {
            kernel: load(sizes, SocketScope::default(), None)
                .context("load the programs (root is needed)")?,
            host: FakeMaps::default(),
            device,
        };
        let shared = &both.host.v4.shared;
        shared.flow_seed.set(both.kernel.flow_seed);
        let buckets = MapSize::buckets(flows);
        both.host.v4.set_buckets(buckets);
        both.host.v6.set_buckets(buckets);
        for write in writes(scenario) {
            both.write(&write)?;
        }
        both.kernel.xdp()?.load()?;
        both.kernel
            .edge_devices
            .set(index_of(c"lo")?, Some(own(0)))?;
        if device == Device::XdpThatSends {
            both.let_xdp_send()?;
        }
        Ok(both)
    }

    /// Lets XDP send: back by the device at which packets come in, which in a test run
    /// is the loopback device, and on by the one that leads nowhere.
    fn let_xdp_send(&mut self) -> Result<()> {
        for (device, ways) in [
            (c"lo", xdp_device_flags::TX),
            (c"nowhere", xdp_device_flags::REDIRECT),
        ] {
            let known = Some(own(ways));
            self.kernel.edge_devices.set(index_of(device)?, known)?;
        }
        Ok(())
    }

    /// Has connections reset to endpoints that are gone.
    pub(crate) fn reset_gone(&mut self) -> Result<()> {
        let (mut v4, mut v6) = (self.host.v4.settings, self.host.v6.settings);
        v4.flags |= settings_flags::RESET_GONE | settings_flags::RETRY_UNANSWERED;
        v6.flags |= settings_flags::RESET_GONE | settings_flags::RETRY_UNANSWERED;
        self.write(&Write::SettingsV4(v4))?;
        self.write(&Write::SettingsV6(v6))
    }

    /// Makes the network of most Services a range of ServiceCIDRs.
    pub(crate) fn look_after_services(&mut self) -> Result<()> {
        let (mut v4, mut v6) = (self.host.v4.settings, self.host.v6.settings);
        for family in Family::BOTH {
            match address(family, 9, 0) {
                IpAddr::V4(first) => {
                    v4.service_cidrs[0] = Range {
                        first: first.into(),
                        mask: Ipv4Addr::new(255, 255, 255, 0).into(),
                    };
                }
                IpAddr::V6(first) => {
                    v6.service_cidrs[0] = Range {
                        first: first.into(),
                        mask: Ipv6Addr::from(!u128::from(u64::MAX)).into(),
                    };
                }
            }
        }
        self.write(&Write::SettingsV4(v4))?;
        self.write(&Write::SettingsV6(v6))
    }

    /// The value of a counter, which is the same on both sides.
    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        self.host.v4.counter(counter)
    }

    /// The value of a counter in the kernel.
    pub(crate) fn kernel_counter(&mut self, counter: Counter) -> Result<u64> {
        Ok(self.kernel.maps.counter(counter)?)
    }

    /// Carries out a write on both sides.
    pub(crate) fn write(&mut self, write: &Write) -> Result<()> {
        self.kernel.maps.write(write)?;
        self.host.write(write)?;
        Ok(())
    }

    /// Removes a frontend of TCP on both sides.
    pub(crate) fn remove_frontend(&mut self, at: SocketAddr) -> Result<()> {
        let id = FrontendId {
            address: at.ip(),
            port: at.port(),
            protocol: object::Protocol::Tcp,
        };
        self.write(&Write::RemoveFrontend { id })
    }

    /// What an audit does with the kernel's filter.
    pub(crate) fn reconcile_filter(&mut self) -> Result<FilterRepairs> {
        let content = self.kernel.maps.read()?;
        Ok(self.kernel.maps.reconcile_filter(&content)?)
    }

    /// Runs a packet through both sides, which must agree; says what they say.
    pub(crate) fn run(
        &mut self,
        hook: Hook,
        bytes: &[u8],
        what: &str,
    ) -> Result<(Outcome, Vec<u8>)> {
        // Read before, since this thread may lose its processor for long after the kernel's run.
        self.host.v4.shared.now.set(tick_for_both());
        let device = self.device;
        let by_xdp = match (hook, device) {
            (Hook::FromOutside, Device::XdpThatPasses | Device::XdpThatSends) => {
                self.run_xdp(bytes, what)?
            }
            _ => None,
        };
        let (kernel, kernel_bytes) = match by_xdp {
            Some(done) => done,
            None => self.run_kernel(hook, device, bytes)?,
        };
        let is_of_others = device != Device::Ip && !bytes.starts_with(&LINK_ADDRESS);
        if hook == Hook::FromOutside && is_of_others {
            let untouched = (Outcome::Passed, bytes.to_vec());
            assert_eq!(
                (kernel, kernel_bytes),
                untouched,
                "for another machine, {what}"
            );
            return Ok(untouched);
        }
        // One that only goes through this host is none of its own.
        let is_own = device == Device::Ip || bytes.get(6..12) == Some(&NEIGHBOUR);
        let host_hook = match hook {
            Hook::FromHost if !is_own => Hook::Out,
            hook => hook,
        };
        let (host, host_bytes) = self.run_host(host_hook, device, bytes);
        assert_eq!(kernel, host, "verdicts of kernel and host, {what}");
        // A test run has an Ethernet header also where there is none, and would put
        // headers behind it.
        let is_comparable = device != Device::Ip || host_bytes.len() == bytes.len();
        if is_comparable {
            assert_eq!(kernel_bytes, host_bytes, "bytes of kernel and host, {what}");
        } else {
            assert_eq!(kernel_bytes.len(), host_bytes.len(), "{what}");
        }
        for (counter, name) in Counter::ALL {
            let in_kernel = self.kernel.maps.counter(counter)?;
            let on_host = self.host.v4.counter(counter);
            assert_eq!(in_kernel, on_host, "{name} in kernel and host, {what}");
        }
        self.compare_traffic(what)?;
        Ok((host, host_bytes))
    }

    /// Compares what was counted by Service and by backend.
    fn compare_traffic(&mut self, what: &str) -> Result<()> {
        let Self { kernel, host, .. } = self;
        let services = host.v4.shared.service_traffic.borrow();
        for (service, traffic) in services.iter() {
            let in_kernel = kernel.maps.service_traffic(*service)?;
            assert_eq!(in_kernel, *traffic, "service {service}, {what}");
        }
        let v4 = host.v4.backend_traffic.borrow();
        let v6 = host.v6.backend_traffic.borrow();
        for (family, backends) in [(object::Family::V4, v4), (object::Family::V6, v6)] {
            for (index, traffic) in backends.iter() {
                let in_kernel = kernel.maps.backend_traffic(family, *index)?;
                assert_eq!(in_kernel, *traffic, "backend {index}, {what}");
            }
        }
        Ok(())
    }

    /// Runs a packet through XDP; `None` if that leaves it as it came.
    fn run_xdp(&mut self, bytes: &[u8], what: &str) -> Result<Option<(Outcome, Vec<u8>)>> {
        let mut out = vec![0; bytes.len() + 64];
        let result = self.kernel.xdp()?.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })?;
        out.truncate(result.data_size_out as usize);
        let outcome = match result.return_value {
            XDP_PASS if out.len() == bytes.len() => {
                assert_eq!(out, bytes, "left to TC, {what}");
                return Ok(None);
            }
            XDP_PASS => {
                // The mark for TC is in front.
                out.drain(..size_of::<u32>());
                Outcome::Passed
            }
            XDP_DROP => Outcome::Dropped,
            XDP_TX => Outcome::SentOn,
            XDP_REDIRECT => {
                ensure!(out.starts_with(&TO_GATEWAY), "not to the gateway, {what}");
                // TC leaves this to the kernel.
                out[..12].copy_from_slice(&bytes[..12]);
                Outcome::SentOn
            }
            other => anyhow::bail!("an unknown verdict: {other}"),
        };
        ensure!(out.len() == bytes.len(), "the length has changed");
        Ok(Some((outcome, out)))
    }

    /// Runs a packet through the kernel's program.
    pub(crate) fn run_kernel(
        &mut self,
        hook: Hook,
        device: Device,
        bytes: &[u8],
    ) -> Result<(Outcome, Vec<u8>)> {
        let name = match (hook, device) {
            (Hook::FromPod, Device::Ip) => ProgramName::IngressPodIp,
            (Hook::FromOutside, Device::Ip) => ProgramName::IngressOutsideIp,
            (Hook::Out, Device::Ip) => ProgramName::EgressPodIp,
            (Hook::FromHost, Device::Ip) => ProgramName::EgressOutsideIp,
            (Hook::FromPod, _) => ProgramName::IngressPod,
            (Hook::FromOutside, _) => ProgramName::IngressOutside,
            (Hook::Out, _) => ProgramName::EgressPod,
            (Hook::FromHost, _) => ProgramName::EgressOutside,
        };
        // An ICMP error quotes what there was.
        let mut out = vec![0; bytes.len() + 64];
        let result = self.kernel.program(name)?.test_run(TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        })?;
        out.truncate(result.data_size_out as usize);
        let outcome = match result.return_value.cast_signed() {
            NEXT => Outcome::Passed,
            SHOT => Outcome::Dropped,
            REDIRECT => Outcome::SentOn,
            other => anyhow::bail!("an unknown verdict: {other}"),
        };
        if device == Device::Ip && outcome == Outcome::SentOn && out.starts_with(&[0; 14]) {
            // What another device's header will be put in the place of.
            out.drain(..14);
        }
        Ok((outcome, out))
    }

    /// The program of a device that leads outside.
    pub(crate) fn ingress(&mut self) -> Result<&SchedClassifier> {
        Ok(self.kernel.program(ProgramName::IngressOutside)?)
    }

    /// The tables of records in the kernel.
    pub(crate) fn records(&self) -> &RecordTables {
        &self.kernel.records
    }

    fn run_host(&self, hook: Hook, device: Device, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        let mut frame = Frame(bytes.to_vec());
        let link = match device {
            Device::Ethernet | Device::XdpThatPasses | Device::XdpThatSends => Link::Ethernet,
            Device::Ip => Link::Ip(u16::from_be_bytes([bytes[12], bytes[13]])),
        };
        let hook = match hook {
            Hook::FromPod => host::Hook::Ingress(Client::Pod),
            Hook::FromOutside if device == Device::XdpThatPasses => {
                host::Hook::Xdp { can_send: false }
            }
            Hook::FromOutside if device == Device::XdpThatSends => {
                host::Hook::Xdp { can_send: true }
            }
            Hook::FromOutside => host::Hook::Ingress(Client::Outside),
            Hook::Out => host::Hook::Egress(Client::Outside),
            Hook::FromHost => host::Hook::Egress(Client::Host),
        };
        let action = host::run(&mut frame, hook, link, &self.host.v4, &self.host.v6);
        let outcome = match action {
            // Up the stack from where it is; but what leaves has to come in first.
            Action::Deliver if hook == host::Hook::Egress(Client::Host) => Outcome::SentOn,
            Action::Pass | Action::Deliver => Outcome::Passed,
            Action::Drop => Outcome::Dropped,
            Action::Bounce | Action::Forward | Action::Reinject => Outcome::SentOn,
        };
        (outcome, frame.0)
    }
}

/// The time in ticks. Waits for the next one, if this one ends soon: kernel and host are to see the
/// same, by which they choose among source ports, and among records to be evicted.
fn tick_for_both() -> u32 {
    const RUN: Duration = Duration::from_millis(50);
    let tick = 1 << ticks::SHIFT;
    loop {
        let now = clock::coarse();
        let left = Duration::from_nanos(tick - now % tick);
        if left >= RUN {
            return ticks::from_nanoseconds(now);
        }
        thread::sleep(left);
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
