//! A named network namespace as a guard.

use std::{
    fs::{self, File},
    io::Write as _,
    os::fd::AsRawFd as _,
    panic,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    addresses::Family,
    bpffs::Bpffs,
    cgroup::Cgroup,
    directory::{is_left_over, names_in},
    ip,
};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A network namespace; dropping it ends the processes in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Where its commands run.
    cgroup: Option<Arc<Cgroup>>,
}

impl Namespace {
    /// Makes namespaces called `<lab>-<role>`, with loopback up.
    pub fn create(lab: &str, roles: &[&str]) -> Result<Vec<Self>> {
        let namespaces: Vec<_> = roles
            .iter()
            .map(|role| Self {
                name: format!("{lab}-{role}"),
                cgroup: None,
            })
            .collect();
        let add = namespaces.iter().map(|it| format!("netns add {}", it.name));
        ip::batch(&add.collect::<Vec<_>>())?;
        for namespace in &namespaces {
            namespace.sysctl("net/ipv6/conf/all/accept_dad", "0")?;
            namespace.sysctl("net/ipv6/conf/default/accept_dad", "0")?;
            namespace.ip(&["link set lo up".into()])?;
        }
        Ok(namespaces)
    }

    /// The name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Has commands run in a cgroup as well, from now on. Closures do not: they stay
    /// where this process is.
    pub fn join(&mut self, cgroup: &Arc<Cgroup>) {
        self.cgroup = Some(Arc::clone(cgroup));
    }

    /// The cgroup in which commands run.
    pub fn cgroup(&self) -> Option<&Arc<Cgroup>> {
        self.cgroup.as_ref()
    }

    /// A command that will run inside.
    ///
    /// With `nsenter`, since `ip netns exec` mounts a /sys of its own, which
    /// hides the control groups from an agent.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command_with(None, program)
    }

    /// The same, with a BPF file system.
    pub fn command_with(
        &self,
        bpffs: Option<&Bpffs>,
        program: impl AsRef<std::ffi::OsStr>,
    ) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display()));
        command.args(bpffs.map(Bpffs::entrance));
        command.arg("--").arg(program);
        if let Some(cgroup) = &self.cgroup {
            cgroup.admit(&mut command);
        }
        command
    }

    /// Runs `ip` commands inside, in order, up to the first failure.
    pub fn ip(&self, commands: &[String]) -> Result<()> {
        ip::batch_in(&self.name, commands)
    }

    /// Has nftables load rules, as a file of its own has them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        self.load("nft", &["-f", "-"], rules)
    }

    /// Has iptables, or ip6tables, load rules, as `iptables-save` prints them; others stay.
    pub fn iptables(&self, family: Family, rules: &str) -> Result<()> {
        let program = match family {
            Family::V4 => "iptables-restore",
            Family::V6 => "ip6tables-restore",
        };
        self.load(program, &["--noflush"], rules)
    }

    fn load(&self, program: &str, arguments: &[&str], rules: &str) -> Result<()> {
        let mut command = self.command(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("{program}: start"))?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        // Where it ends early, its own words say more than EPIPE.
        let _ = stdin.write_all(rules.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("wait")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{program}: {complaint}\nof:\n{rules}"
        );
        Ok(())
    }

    /// Writes a setting under /proc/sys, where `net/` is the namespace's own.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("{}: {}: write", self.name, path.display()))
    }

    /// Runs a closure on a thread inside: sockets that it opens belong here.
    ///
    /// A panic in the closure goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let door = self.door()?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || Ok(door.enter()?.then(work)));
            inside.join().unwrap_or_else(|it| panic::resume_unwind(it))
        })
    }

    /// Starts a thread inside, which goes on by itself.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let door = self.door()?;
        Ok(thread::spawn(move || Ok(door.enter()?.then(work))))
    }

    fn door(&self) -> Result<Door> {
        let path = self.path();
        let file = File::open(&path).with_context(|| format!("{}: open", path.display()))?;
        Ok(Door(file))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// An open namespace, which a thread may enter.
struct Door(File);

/// Proof that this thread is inside.
struct Inside;

impl Door {
    #[expect(unsafe_code, reason = "std has no setns(2)")]
    fn enter(self) -> Result<Inside> {
        // SAFETY: takes two integers; the file is open until after the call.
        let result = unsafe { libc::setns(self.0.as_raw_fd(), libc::CLONE_NEWNET) };
        if result != 0 {
            return Err(std::io::Error::last_os_error()).context("setns (root is needed)");
        }
        Ok(Inside)
    }
}

impl Inside {
    #[expect(clippy::unused_self, reason = "that one has it is the point")]
    fn then<T>(self, work: impl FnOnce() -> T) -> T {
        work()
    }
}

/// Removes the namespaces of labs whose process is gone.
pub fn sweep() {
    remove_where(is_left_over);
}

pub(super) fn remove_where(wanted: impl Fn(&str) -> bool) {
    for name in names_in(Path::new(NAMES)) {
        if wanted(&name) {
            remove(&name);
        }
    }
}

/// Ends what runs in a namespace, which would keep it alive, and removes it.
///
/// Quiet when it is gone already: two labs may sweep at the same time.
fn remove(name: &str) {
    for pid in processes_in(name) {
        kill(pid);
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// The processes whose network namespace is this one.
fn processes_in(name: &str) -> Vec<libc::pid_t> {
    let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() else {
        return Vec::new();
    };
    let own = process::id().cast_signed();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|&pid| pid != own)
        .collect()
}

#[expect(unsafe_code, reason = "std only kills its own children")]
fn kill(pid: libc::pid_t) {
    // SAFETY: takes two integers. Only a process inside a lab's namespace gets here.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}
