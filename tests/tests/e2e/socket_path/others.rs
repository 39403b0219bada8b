//! Programs of others at the same cgroup: both run, theirs before ours or behind.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use proxy_tests::lab::{Cluster, Family, Namespace, Options, PodNetwork, client, mirror};

use super::{ON, python};
use crate::world::{World, cluster_ip};

/// One instruction (`linux/bpf.h`).
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate: immediate.cast_signed(),
    }
}

/// `r0 = value`
const fn returns(value: u32) -> Instruction {
    instruction(0xb7, 0, 0, value)
}

/// `r2 = *(u32 *)(r1 + field)`, with a field of `struct bpf_sock_addr`.
const fn read(field: i16) -> Instruction {
    instruction(0x61, 0x12, field, 0)
}

/// `if r2 != value` so many instructions are left out.
const fn unless(value: u32, left_out: i16) -> Instruction {
    instruction(0x56, 2, left_out, value)
}

const EXIT: Instruction = instruction(0x95, 0, 0, 0);
const USER_IP4: i16 = 4;
const USER_PORT: i16 = 24;

/// A program that refuses connections to an address.
fn refuses(address: IpAddr) -> Vec<Instruction> {
    let IpAddr::V4(address) = address else {
        unreachable!("of IPv4");
    };
    let address = u32::from_ne_bytes(address.octets());
    vec![
        returns(1),
        read(USER_IP4),
        unless(address, 1),
        returns(0),
        EXIT,
    ]
}

/// A program that lets connections to one port go to another one.
fn moves(from: u16, to: u16) -> Vec<Instruction> {
    vec![
        returns(1),
        read(USER_PORT),
        unless(from.to_be().into(), 2),
        // r2 = to; *(u32 *)(r1 + user_port) = r2
        instruction(0xb7, 2, 0, to.to_be().into()),
        instruction(0x63, 0x21, USER_PORT, 0),
        EXIT,
    ]
}

/// The members of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
    version_and_flags: [u32; 2],
    name: [u8; 16],
    device: u32,
    attach_type: u32,
}

/// Those for `BPF_LINK_CREATE`.
#[repr(C)]
struct Attach {
    program: u32,
    cgroup: u32,
    kind: u32,
    flags: u32,
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
const BPF_CGROUP_INET4_CONNECT: u32 = 10;

#[expect(unsafe_code, reason = "std has no bpf(2)")]
fn bpf<T>(command: i32, attributes: &T) -> Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as there are, and what they point to.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let descriptor = i32::try_from(descriptor)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error()).context("bpf(2)");
    }
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A program at a node's cgroup, where connections begin, until this is dropped.
fn attach(node: &Namespace, program: &[Instruction]) -> Result<OwnedFd> {
    let load = Load {
        kind: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
        count: u32::try_from(program.len())?,
        instructions: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        attach_type: BPF_CGROUP_INET4_CONNECT,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    let cgroup = File::open(node.cgroup().context("a cgroup")?.path())?;
    let descriptor = |it: i32| it.cast_unsigned();
    bpf(
        BPF_LINK_CREATE,
        &Attach {
            program: descriptor(program.as_raw_fd()),
            cgroup: descriptor(cgroup.as_raw_fd()),
            kind: BPF_CGROUP_INET4_CONNECT,
            flags: 0,
        },
    )
}

const CONNECT: &str = r#"
it = open_socket(address, TCP)
result = attempt(it.connect, (address, port))
if result == "ok":
    it.send(b"who\n")
    result = it.recv(100).decode().split()[0]
print(result)
"#;

#[test]
fn programs_of_others_run_before_ours_and_behind() -> Result<()> {
    let cluster = Cluster::new(Options {
        network: PodNetwork::Bridge,
        ..Options::default()
    })?;
    let node = &cluster.nodes[0].namespace;
    let dns = SocketAddr::new(cluster_ip("dns", Family::V4), 53);
    let other_port = 17_777;
    let _before = [
        attach(node, &moves(other_port, mirror::PORT))?,
        attach(node, &refuses(dns.ip()))?,
    ];
    let world = World::on(cluster, &ON)?;
    let _servers = mirror::start(world.cluster.pods())?;
    world.after_programming(|| mirror::add(&world.manifests))?;
    world.scale(mirror::NAME, &[(2, 1)])?;
    let to = mirror::cluster_ip(Family::V4);
    let there = world.cluster.pod(2, 1).addresses.of(Family::V4);
    let web = SocketAddr::new(cluster_ip("web", Family::V4), 80);
    for (who, from) in world.host_and_pod() {
        let connect = |port| python(from, CONNECT, SocketAddr::new(to.ip(), port), &[]);
        // What they change before, ours sees; what they refuse stays refused.
        assert_eq!(connect(other_port)?, "pod-2-1", "{who}");
        assert_eq!(python(from, CONNECT, dns, &[])?, "EPERM", "{who}");
        client::http(from, web)?;
        // Behind ours they see the endpoint.
        let behind = attach(&world.cluster.nodes[0].namespace, &refuses(there))?;
        assert_eq!(connect(to.port())?, "EPERM", "{who}");
        drop(behind);
        let behind = attach(&world.cluster.nodes[0].namespace, &refuses(to.ip()))?;
        assert_eq!(connect(to.port())?, "pod-2-1", "{who}");
        drop(behind);
    }
    Ok(())
}
