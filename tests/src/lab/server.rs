//! Servers in pods: programs nobody here wrote, which answer with the pod's name.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{node::Pod, process::Process};

/// The port of the pods' HTTP servers.
pub const HTTP_PORT: u16 = 8080;
/// The port of the pods' DNS servers.
pub const DNS_PORT: u16 = 53;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Starts an HTTP server in each pod, python's, on IPv4 and IPv6.
///
/// The pages go below `directory`.
pub fn start_http<'a>(
    directory: &Path,
    pods: impl IntoIterator<Item = &'a Pod>,
) -> Result<Vec<Process>> {
    start_all(pods, "Serving HTTP", |pod| {
        let page = directory.join("www").join(&pod.name);
        fs::create_dir_all(&page).with_context(|| format!("{}: mkdir", page.display()))?;
        fs::write(page.join("index.html"), format!("{}\n", pod.name))?;
        let mut command = pod.namespace.command("python3");
        command.args(["-u", "-m", "http.server", "--bind", "::", "--directory"]);
        command.arg(page).arg(HTTP_PORT.to_string());
        Process::spawn(&format!("http server of {}", pod.name), command)
    })
}

/// Starts a DNS server in each pod, dnsmasq, which answers `TXT who.`
pub fn start_dns<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<Vec<Process>> {
    start_all(pods, "started, version", |pod| {
        let mut command = pod.namespace.command("dnsmasq");
        command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file"]);
        command.args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args(["--user=root", "--group=root", &format!("--port={DNS_PORT}")]);
        command.arg(format!("--txt-record=who,{}", pod.name));
        Process::spawn(&format!("dns server of {}", pod.name), command)
    })
}

/// Starts all before it waits for any, since each takes a moment.
fn start_all<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    ready: &str,
    start: impl Fn(&Pod) -> Result<Process>,
) -> Result<Vec<Process>> {
    let servers = pods.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    for server in &servers {
        server.wait_for_line(TIMEOUT, |line| line.contains(ready))?;
    }
    Ok(servers)
}
