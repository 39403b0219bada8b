//! A cable between two devices without a link header, as those of tun(4) and other tunnels of
//! IP are: what one sends, a process writes to the other.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{namespace::Namespace, process::Process};

/// The name of both devices.
pub const TUN: &str = "tun0";
const PATIENCE: Duration = Duration::from_secs(10);
const STARTED: &str = "tun devices connected";

/// Opens a device in each of the namespaces whose files it is told; see tun(4) for the numbers.
const PROGRAM: &str = r#"
import ctypes, fcntl, os, select, struct, sys

CLONE_NEWNET, TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x40000000, 0x400454ca, 1, 0x1000
libc = ctypes.CDLL(None, use_errno=True)

def open_device(namespace):
    with open(namespace) as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR)
    request = struct.pack("16sH22x", sys.argv[1].encode(), IFF_TUN | IFF_NO_PI)
    fcntl.ioctl(device, TUNSETIFF, request)
    return device

first, second = map(open_device, sys.argv[2:4])
other = {first: second, second: first}
print("tun devices connected", flush=True)
while True:
    for device in select.select(other, [], [])[0]:
        try:
            os.write(other[device], os.read(device, 65536))
        except OSError:
            pass  # It is down.
"#;

/// Connects two namespaces by a device each, which are down yet; they go with the process.
pub fn connect(first: &Namespace, second: &Namespace) -> Result<Process> {
    let mut command = first.command("python3");
    command.args(["-c", PROGRAM, TUN]);
    command.args([first.path(), second.path()]);
    let process = Process::spawn("tun devices", command)?;
    process
        .wait_for_line(PATIENCE, |line| line == STARTED)
        .context("no tun devices")?;
    Ok(process)
}
