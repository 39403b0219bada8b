//! Nodes.

use std::collections::{BTreeMap, BTreeSet};

use proxy_agent::attach::Features;
use proxy_agent::check::{Device, Facts, OtherProxies, Ports, Role, Xdp};
use proxy_agent::config::PortRange;
use proxy_agent::host::{HostPorts, NftChain};

fn names(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(ToString::to_string).collect()
}

fn device(name: &str, role: Role, address: Option<&str>) -> Device {
    Device {
        name: name.to_owned(),
        role,
        driver: (role == Role::Uplink).then(|| "ixgbe".to_owned()),
        mtu: Some(1500),
        xdp: match role {
            Role::Uplink => Xdp::Native,
            Role::Pod | Role::Other => Xdp::None,
        },
        addresses: address.map(|it| it.parse().unwrap()).into_iter().collect(),
    }
}

fn chain(table: &str, name: &str) -> NftChain {
    NftChain {
        table: table.to_owned(),
        name: name.to_owned(),
        ..NftChain::default()
    }
}

const fn range(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

/// A node that is as it should be.
pub(crate) fn fit() -> Facts {
    let sysctls = [
        ("net.core.bpf_jit_enable", "1"),
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.conf.all.rp_filter", "0"),
        ("net.ipv4.conf.eth0.rp_filter", "1"),
    ];
    Facts {
        features: Features {
            release: "6.12.38+deb13-amd64".to_owned(),
            tcx: true,
            xdp_redirect_targets: true,
            set_retval: true,
            netns_cookie: true,
        },
        architecture: "x86_64".to_owned(),
        capabilities: Ok(u64::MAX),
        programs: Ok(()),
        xdp_program: Ok(()),
        socket_programs: Ok(()),
        bpffs: ("/sys/fs/bpf".into(), Ok(true)),
        has_pins: false,
        cgroup: Ok("/sys/fs/cgroup".into()),
        devices: Ok(vec![
            device("eth0", Role::Uplink, Some("192.0.2.1")),
            device("vxlan0", Role::Other, None),
            device("veth1", Role::Pod, None),
        ]),
        others: OtherProxies {
            // The kubelet's.
            chains: Ok(vec![chain("mangle", "KUBE-KUBELET-CANARY")]),
            legacy_tables: Vec::new(),
            translated: Ok(0),
            ipvs_services: 0,
            devices: names(&["lo", "eth0", "vxlan0", "veth1"]),
            pins: names(&["ip", "proxy-agent"]),
        },
        sysctls: sysctls
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ports: Ports {
            host: Ok(HostPorts {
                ephemeral: Some(range(32_768, 60_999)),
                reserved: Vec::new(),
                bound: BTreeSet::from([22, 10_250]),
            }),
            nat: range(1024, 65_535),
        },
    }
}

/// Debian 12 with kube-proxy in mode ipvs, which was in mode iptables before.
pub(crate) fn with_kube_proxy() -> Facts {
    let mut facts = fit();
    facts.features = Features {
        release: "6.1.0-37-amd64".to_owned(),
        tcx: false,
        xdp_redirect_targets: false,
        set_retval: true,
        netns_cookie: true,
    };
    facts.bpffs.1 = Ok(false);
    set(&mut facts, "net.ipv4.ip_forward", "0");
    facts.devices = Ok(vec![
        Device {
            mtu: Some(9000),
            xdp: Xdp::Unknown,
            driver: Some("virtio_net".to_owned()),
            ..device("ens3", Role::Uplink, Some("192.0.2.1"))
        },
        Device {
            mtu: Some(1450),
            ..device("flannel.1", Role::Other, Some("10.244.1.0"))
        },
        device("veth1", Role::Pod, None),
    ]);
    facts.others = OtherProxies {
        chains: Ok(vec![
            chain("nat", "KUBE-SERVICES"),
            chain("nat", "KUBE-SVC-NPX46M4PTMTKRN6Y"),
            chain("nat", "POSTROUTING"),
        ]),
        legacy_tables: vec!["nat".to_owned(), "filter".to_owned()],
        translated: Ok(7),
        ipvs_services: 4,
        devices: names(&["ens3", "kube-ipvs0", "flannel.1", "veth1"]),
        pins: BTreeSet::new(),
    };
    let host = facts.ports.host.as_mut().unwrap();
    host.bound.extend([10_249, 10_256]);
    facts
}

/// A process with PERFMON alone.
pub(crate) fn without_capabilities() -> Facts {
    Facts {
        capabilities: Ok(1 << 38),
        programs: Err("EPERM".to_owned()),
        xdp_program: Err("EPERM".to_owned()),
        socket_programs: Err("EPERM".to_owned()),
        others: OtherProxies {
            chains: Err("cannot list nftables: EPERM".to_owned()),
            ..fit().others
        },
        ..fit()
    }
}

fn set(facts: &mut Facts, name: &str, value: &str) {
    facts.sysctls.insert(name.to_owned(), value.to_owned());
}

fn devices(facts: &mut Facts) -> &mut Vec<Device> {
    facts.devices.as_mut().unwrap()
}

fn host(facts: &mut Facts) -> &mut HostPorts {
    facts.ports.host.as_mut().unwrap()
}

/// A change of a fit node, and what is to be said of it.
type Change = (fn(&mut Facts), &'static str);

pub(crate) const CHANGES: &[Change] = &[
    (
        |it| it.programs = Err("refused".to_owned()),
        "error programs: the kernel refuses the programs of devices, there is no serving without them: refused",
    ),
    (
        |it| it.xdp_program = Err("refused".to_owned()),
        "warning xdp: the kernel refuses the program of XDP, TC serves uplinks alone: refused",
    ),
    (
        |it| it.socket_programs = Err("refused".to_owned()),
        "warning socket-path: the kernel refuses the programs of the socket path, each packet is translated: refused",
    ),
    (
        |it| it.capabilities = Err("no /proc".to_owned()),
        "unknown capabilities: no /proc",
    ),
    (
        |it| it.features.netns_cookie = false,
        "warning netns-cookie: no SO_NETNS_COOKIE (Linux 5.14): the socket path is off",
    ),
    (
        |it| it.features.set_retval = false,
        "warning socket-errno: no bpf_set_retval (Linux 6.1): a refused connect fails with EPERM",
    ),
    (
        |it| set(it, "net.core.bpf_jit_enable", "0"),
        "warning jit: programs are interpreted, which costs each packet time",
    ),
    (
        |it| it.bpffs.1 = Err("cannot look at /sys/fs/bpf: none".to_owned()),
        "warning bpffs: cannot look at /sys/fs/bpf: none",
    ),
    (
        |it| it.cgroup = Err("cgroup2 is mounted nowhere".to_owned()),
        "warning cgroup2: cgroup2 is mounted nowhere: the socket path would be off",
    ),
    (
        |it| devices(it).retain(|device| device.role == Role::Pod),
        "error devices: 0 uplinks, 0 tunnels and the like, 1 of Pods: nothing leads out of this network namespace",
    ),
    (
        |it| it.devices = Err("EPERM".to_owned()),
        "unknown devices: EPERM",
    ),
    (
        |it| devices(it)[0].mtu = Some(9000),
        "warning device eth0: ixgbe, MTU 9000: many drivers refuse XDP with packets of that length, then TC serves it",
    ),
    (
        |it| devices(it)[1].mtu = Some(1000),
        "warning mtu: vxlan0 takes less than IPv6 needs (1280)",
    ),
    (
        |it| devices(it)[1].mtu = Some(1450),
        "warning mtu: Pods send up to 1500 bytes, and a device that leads out takes 1450",
    ),
    (
        |it| it.others.chains = Ok(vec![chain("kube-proxy", "services")]),
        "warning kube-proxy: its rules are here, 1 chains; netfilter translates 0 connections",
    ),
    (
        |it| it.others.devices = names(&["kube-ipvs0"]),
        "warning ipvs: 0 virtual services",
    ),
    (
        |it| it.others.pins = names(&["cilium_lb4_services_v2"]),
        "warning cilium: it has maps for Services, so that it may serve them itself",
    ),
    (
        |it| it.others.devices = names(&["bpfin.cali"]),
        "warning calico: its eBPF mode serves Services itself",
    ),
    (
        |it| it.others.pins = names(&["cali_v4_nat_fe3"]),
        "warning calico: its eBPF mode serves Services itself",
    ),
    (
        |it| set(it, "net.ipv4.ip_forward", "0"),
        "error forwarding: IPv4 packets are not forwarded to Pods",
    ),
    (
        |it| it.sysctls = BTreeMap::new(),
        "unknown forwarding: net.ipv4.ip_forward cannot be read",
    ),
    (
        |it| {
            set(it, "net.ipv6.conf.all.forwarding", "0");
            devices(it)[0]
                .addresses
                .push("2001:db8::1".parse().unwrap());
        },
        "warning forwarding-ipv6: IPv6 packets are not forwarded to Pods",
    ),
    (
        |it| devices(it).push(device("eth1", Role::Uplink, Some("198.51.100.1"))),
        "warning rp-filter: strict at eth0, beside other devices that lead out",
    ),
    (
        |it| it.ports.host = Err("no /proc".to_owned()),
        "unknown ports: no /proc",
    ),
    (
        |it| host(it).ephemeral = Some(range(10_000, 65_535)),
        "warning node-ports: sockets may get ports of 30000-32767, by net.ipv4.ip_local_port_range",
    ),
    (
        |it| it.ports.nat = range(61_000, 61_999),
        "warning nat-ports: 1000 of 61000-61999 for connections with this node's address",
    ),
    (
        |it| it.ports.nat = range(40_000, 50_000),
        "warning nat-ports: 10001 of 40000-50000 for connections with this node's address, ports that sockets may get among them",
    ),
    (
        |it| it.ports.nat = range(30_000, 30_100),
        "error nat-ports: 0 of 30000-30100 for connections with this node's address",
    ),
    (
        |it| host(it).bound.extend([30_080]),
        "warning node-ports: sockets have ports of 30000-32767: 30080",
    ),
    (
        |it| host(it).bound.extend([10_256]),
        "warning own-ports: somebody listens at 10256",
    ),
];
