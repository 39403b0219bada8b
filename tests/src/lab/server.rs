//! Servers in pods: programs nobody here wrote, which answer with the pod's name.

use std::net::{Ipv6Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};

use super::{node::Pod, process::Process};

/// The port of the pods' HTTP servers.
pub const HTTP_PORT: u16 = 8080;
/// The port of the pods' DNS servers.
pub const DNS_PORT: u16 = 53;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Starts an HTTP server in each pod, busybox's, on IPv4 and IPv6. It logs a line for each request,
/// which begins with `[CLIENT]:PORT`.
///
/// The pages go below `directory`.
pub fn start_http<'a>(
    directory: &Path,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Result<Vec<Process>> {
    let pods: Vec<&Pod> = pods.into_iter().collect();
    let start = |pod: &&Pod| {
        let page = directory.join("www").join(&pod.name);
        fs::create_dir_all(&page).with_context(|| format!("{}: mkdir", page.display()))?;
        fs::write(page.join("index.html"), format!("{}\n", pod.name))?;
        let mut command = pod.namespace.command("busybox");
        command.args([
            "httpd",
            "-f",
            "-v",
            "-p",
            &format!("[::]:{HTTP_PORT}"),
            "-h",
        ]);
        command.arg(page);
        Process::spawn(&format!("http server of {}", pod.name), command)
    };
    // All before it waits for any, since each takes a moment.
    let servers = pods.iter().map(start).collect::<Result<Vec<_>>>()?;
    for pod in pods {
        pod.namespace.run(wait_for_http)??;
    }
    Ok(servers)
}

/// The server does not say when it listens.
fn wait_for_http() -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect((Ipv6Addr::LOCALHOST, HTTP_PORT)).is_err() {
        ensure!(began.elapsed() < TIMEOUT, "no HTTP server in {TIMEOUT:?}");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Starts a DNS server in each pod, dnsmasq, which answers `TXT who.`
pub fn start_dns<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<Vec<Process>> {
    let start = |pod: &Pod| {
        let mut command = pod.namespace.command("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file"]);
        command.args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args(["--user=root", "--group=root", &format!("--port={DNS_PORT}")]);
        command.arg(format!("--txt-record=who,{}", pod.name));
        Process::spawn(&format!("dns server of {}", pod.name), command)
    };
    let servers = pods.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    for server in &servers {
        server.wait_for_line(TIMEOUT, |line| line.contains("started, version"))?;
    }
    Ok(servers)
}
