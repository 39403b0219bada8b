//! Test runs of programs, and programs that do nothing.
#![expect(
    unsafe_code,
    reason = "commands of bpf(2), the affinity of a thread, and the index of a device"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use proxy_tests::packets::Packet;

/// Types of programs (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tc = 3,
    Xdp = 6,
}

/// How a packet is run again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// By the kernel, so often with the same packet, which no run changes.
    Repeated(u32),
    /// By a system call each, so often, with a copy of one packet after the other.
    Single(usize),
}

/// `TCX_NEXT`, as programs of TC leave a packet to the next one.
pub(crate) const NEXT: i32 = -1;
/// `XDP_PASS`.
const XDP_PASS: i32 = 2;

/// A packet as a frame to the loopback device, by which it comes in in a test run.
pub(crate) fn frame(packet: &Packet) -> Vec<u8> {
    let mut packet = packet.clone();
    if let Some(link) = &mut packet.link {
        link.destination = [0; 6];
    }
    packet.build()
}

/// `BPF_PROG_LOAD` and `BPF_PROG_TEST_RUN` of `enum bpf_cmd`.
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;

/// The members of `union bpf_attr` for `BPF_PROG_LOAD`, up to the license.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// The members of `union bpf_attr` for `BPF_PROG_TEST_RUN`, up to the duration.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    nanoseconds: u32,
}

/// Runs a program; what it returns, how long one run took in nanoseconds, and the packet
/// where `out` has room for it.
pub(crate) fn run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    repeat: u32,
    out: Option<&mut Vec<u8>>,
) -> Result<(i32, u32)> {
    let mut run = TestRun {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: u32::try_from(packet.len())?,
        data_in: packet.as_ptr() as u64,
        repeat,
        ..TestRun::default()
    };
    if let Some(out) = &out {
        run.data_out = out.as_ptr() as u64;
        run.size_out = u32::try_from(out.len())?;
    }
    // SAFETY: the pointers are to buffers of the lengths beside them.
    unsafe { bpf(PROG_TEST_RUN, &mut run) }.context("test run of a program")?;
    if let Some(out) = out {
        out.truncate(run.size_out as usize);
    }
    Ok((run.returned.cast_signed(), run.nanoseconds))
}

/// How long one run takes, in nanoseconds: the mean of repeated ones, the median of single
/// ones. Fails where one returns anything but `expected`.
pub(crate) fn measure(
    program: BorrowedFd<'_>,
    packets: &[Vec<u8>],
    runs: Runs,
    expected: i32,
) -> Result<f64> {
    let check = |returned| {
        let is_right = returned == expected;
        anyhow::ensure!(is_right, "returned {returned} and not {expected}");
        Ok(())
    };
    match runs {
        Runs::Repeated(times) => {
            let packet = packets.first().context("a packet")?;
            let (returned, took) = run(program, packet, times, None)?;
            check(returned)?;
            Ok(f64::from(took))
        }
        Runs::Single(times) => {
            let mut took = Vec::with_capacity(times);
            for packet in packets.iter().cycle().take(times) {
                let (returned, nanoseconds) = run(program, packet, 1, None)?;
                check(returned)?;
                took.push(nanoseconds);
            }
            took.sort_unstable();
            Ok(f64::from(took[took.len() / 2]))
        }
    }
}

/// Programs that let every packet go on.
pub(crate) struct Empty {
    tc: OwnedFd,
    xdp: OwnedFd,
}

impl Empty {
    pub(crate) fn load() -> Result<Self> {
        let tc = load_constant(Kind::Tc, NEXT)?;
        let xdp = load_constant(Kind::Xdp, XDP_PASS)?;
        Ok(Self { tc, xdp })
    }

    /// How long one run takes, in nanoseconds.
    pub(crate) fn measure(&self, kind: Kind, packets: &[Vec<u8>], runs: Runs) -> Result<f64> {
        use std::os::fd::AsFd as _;
        match kind {
            Kind::Tc => measure(self.tc.as_fd(), packets, runs, NEXT),
            Kind::Xdp => measure(self.xdp.as_fd(), packets, runs, XDP_PASS),
        }
    }
}

/// Loads `r0 = value; exit`.
fn load_constant(kind: Kind, value: i32) -> Result<OwnedFd> {
    const MOVE: u64 = 0xb7;
    const EXIT: u64 = 0x95;
    let instructions = [MOVE | u64::from(value.cast_unsigned()) << 32, EXIT];
    let mut load = Load {
        kind: kind as u32,
        count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
    };
    // SAFETY: the pointers are to two instructions and a string; the descriptor is new.
    unsafe {
        let descriptor = bpf(PROG_LOAD, &mut load).context("load an empty program")?;
        Ok(OwnedFd::from_raw_fd(descriptor))
    }
}

/// # Safety
///
/// The pointers in `attributes` are valid for the command.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the caller's promise.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    i32::try_from(result)
        .ok()
        .filter(|result| *result >= 0)
        .ok_or_else(io::Error::last_os_error)
}

/// The index of a device of the calling thread's network namespace.
pub(crate) fn index_of(device: &CStr) -> io::Result<u32> {
    // SAFETY: a string with its end.
    match unsafe { libc::if_nametoindex(device.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Keeps the calling thread on the CPU where it is.
pub(crate) fn stay_on_one_cpu() -> io::Result<()> {
    // SAFETY: a set of CPUs is plain data, and the calls take pointers to it.
    unsafe {
        let cpu = libc::sched_getcpu();
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(usize::try_from(cpu).unwrap_or_default(), &mut set);
        if libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
