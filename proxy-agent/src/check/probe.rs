//! Asks the node.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::facts::{Device, Facts, Known, OtherProxies, Ports, Role, Xdp};
use crate::attach::device::{self, DeviceKind};
use crate::attach::{DeviceWatch, Features, SocketPath, cgroup_root, scope, xdp_drivers};
use crate::config::{MapSizes, PortRange, SocketPathMode};
use crate::host::{Conntrack, HostPorts, nft_chains};
use crate::maps::{Loaded, SocketScope, is_bpffs, load_new};

/// What the agent would be started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The BPF file system.
    pub bpffs: PathBuf,
    /// The setting `natPorts`.
    pub nat_ports: PortRange,
}

/// Addresses to which there is no route but a default one (RFC 5737, RFC 3849).
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Maps that take next to no memory.
const SIZES: MapSizes = MapSizes {
    frontends: 64,
    backends: 64,
    slots: 64,
    flows: 1024,
    node_addresses: 16,
};

/// Asks this node, in the network namespace of the calling thread. Nothing is left behind: programs
/// are loaded and not attached.
pub async fn probe(options: &Options) -> Facts {
    let (programs, xdp_program, socket_programs) = load_programs();
    let devices = devices().await;
    let all = devices.iter().flat_map(|(all, _)| all);
    let names = all.map(|device| device.name.clone()).collect();
    let others = others(&options.bpffs, names).await;
    let devices = devices.map(|(all, of_node)| edges(&all, &of_node));
    Facts {
        features: Features::probe(),
        architecture: std::env::consts::ARCH.to_owned(),
        capabilities: capabilities(),
        programs,
        xdp_program,
        socket_programs,
        has_pins: options.bpffs.join("proxy-agent").is_dir(),
        bpffs: (options.bpffs.clone(), bpffs(&options.bpffs)),
        cgroup: known(cgroup_root()),
        sysctls: sysctls(devices.iter().flatten()),
        devices,
        others,
        ports: Ports {
            host: known(HostPorts::read().await),
            nat: options.nat_ports,
        },
    }
}

/// An error in one line, with all that caused it.
fn known<T, E: Into<anyhow::Error>>(result: Result<T, E>) -> Known<T> {
    result.map_err(|error| format!("{:#}", error.into()))
}

fn load_programs() -> (Known<()>, Known<()>, Known<()>) {
    // Whose sockets are the host's does not matter to the verifier.
    let scope = scope(SocketPathMode::On).unwrap_or(SocketScope {
        host_netns: 0,
        pods: true,
    });
    match load_new(SIZES, scope, None) {
        Ok(mut loaded) => {
            let xdp = known(load_xdp(&mut loaded));
            let sockets = known(SocketPath::load(&mut loaded.programs));
            (Ok(()), xdp, sockets)
        }
        Err(error) => {
            let failed: Known<()> = known(Err(error));
            (failed.clone(), failed.clone(), failed)
        }
    }
}

fn load_xdp(loaded: &mut Loaded) -> anyhow::Result<()> {
    Ok(loaded.xdp()?.load()?)
}

fn capabilities() -> Known<u64> {
    let status = fs::read_to_string("/proc/self/status");
    let status = status.map_err(|error| format!("cannot read /proc/self/status: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .ok_or_else(|| "no CapEff in /proc/self/status".to_owned())
}

fn bpffs(path: &Path) -> Known<bool> {
    let failed = |error: &dyn Display| format!("cannot look at {}: {error}", path.display());
    is_bpffs(path).map_err(|error| failed(&error))
}

/// All devices, and addresses that the node will be known by. The API server is not asked: they are
/// those of the devices to which default routes lead.
async fn devices() -> Known<(Vec<device::Device>, BTreeSet<IpAddr>)> {
    let watch = known(DeviceWatch::open())?;
    let all = known(watch.list().await)?;
    let mut of_node = BTreeSet::new();
    for anywhere in ANYWHERE {
        let index = known(watch.output_device(anywhere).await)?;
        let leading = all.iter().filter(|device| Some(device.index) == index);
        of_node.extend(leading.flat_map(|device| device.addresses.iter().copied()));
    }
    Ok((all, of_node))
}

fn edges(all: &[device::Device], of_node: &BTreeSet<IpAddr>) -> Vec<Device> {
    let drivers = xdp_drivers();
    device::edge_devices(all, of_node)
        .map(|(device, role)| Device {
            name: device.name.clone(),
            role: match (role, device.kind) {
                (device::Role::Pod, _) => Role::Pod,
                (_, DeviceKind::Hardware | DeviceKind::Bond) => Role::Uplink,
                _ => Role::Other,
            },
            driver: driver(&device.name),
            mtu: number(&device.name, "mtu"),
            xdp: match drivers.as_ref().and_then(|all| all.get(&device.index)) {
                Some(true) => Xdp::Native,
                Some(false) => Xdp::None,
                None => Xdp::Unknown,
            },
            addresses: device.addresses.clone(),
        })
        .collect()
}

fn attribute(device: &str, name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(device).join(name)
}

fn driver(device: &str) -> Option<String> {
    let link = fs::read_link(attribute(device, "device/driver")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

fn number(device: &str, name: &str) -> Option<u32> {
    let text = fs::read_to_string(attribute(device, name)).ok()?;
    text.trim().parse().ok()
}

async fn others(bpffs: &Path, devices: BTreeSet<String>) -> OtherProxies {
    OtherProxies {
        chains: nft_chains().map_err(|error| format!("cannot list nftables: {error}")),
        legacy_tables: lines("/proc/net/ip_tables_names"),
        translated: translated().await,
        ipvs_services: virtual_services(&lines("/proc/net/ip_vs")),
        devices,
        pins: [bpffs.join("tc/globals"), bpffs.to_owned()]
            .iter()
            .flat_map(|folder| names(folder))
            .collect(),
    }
}

fn lines(file: &str) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// How many connections a proxy with rules in netfilter has made.
async fn translated() -> Known<usize> {
    let conntrack = known(Conntrack::open())?;
    known(conntrack.translated().await).map(|found| found.len())
}

/// The services in `/proc/net/ip_vs`: below them are their servers, each behind an arrow.
fn virtual_services(lines: &[String]) -> usize {
    let protocols = ["TCP", "UDP", "SCTP", "FWM"];
    let is_service = |line: &&String| protocols.iter().any(|it| line.starts_with(it));
    lines.iter().filter(is_service).count()
}

/// Those that findings are about; what cannot be read is left out.
fn sysctls<'a>(devices: impl Iterator<Item = &'a Device>) -> BTreeMap<String, String> {
    let fixed = [
        "net.core.bpf_jit_enable",
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
        "net.ipv4.conf.all.rp_filter",
    ];
    let read = |path: &str, name: String| {
        let text = fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?;
        Some((name, text.trim().to_owned()))
    };
    let fixed = fixed
        .iter()
        .filter_map(|name| read(&name.replace('.', "/"), (*name).to_owned()));
    // A device's name may have a dot.
    let of_devices = devices.filter_map(|device| {
        let path = format!("net/ipv4/conf/{}/rp_filter", device.name);
        read(&path, format!("net.ipv4.conf.{}.rp_filter", device.name))
    });
    fixed.chain(of_devices).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_services_are_counted_without_their_servers() {
        let text = "IP Virtual Server version 1.2.1 (size=4096)\n\
                    Prot LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
                    TCP  0A600001:01BB rr\n  -> AC12000B:192B      Masq    1      0          0\n\
                    UDP  0A60000A:0035 rr\n";
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        assert_eq!(virtual_services(&lines), 2);
        assert_eq!(virtual_services(&[]), 0);
    }
}
