//! The processes, from outside.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddrV4,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use proxy_tests::lab::Namespace;

use super::{Answer, Attempt, Connected, READY, Request, Steady, WorkloadArgs};

/// A process that does what it is told; killed on drop. It ends by itself when its stdin
/// does, also when this process is killed.
pub(in super::super) struct Worker {
    name: String,
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts a client on a CPU.
    pub(in super::super) fn client(place: &Namespace, cpu: usize) -> Result<Self> {
        let arguments = WorkloadArgs {
            cpu,
            ..WorkloadArgs::default()
        };
        Self::start(place, &arguments)
    }

    /// Starts a server on a CPU, with a port for TCP and one for UDP.
    pub(in super::super) fn server(
        place: &Namespace,
        cpu: usize,
        tcp: u16,
        udp: u16,
    ) -> Result<Self> {
        let arguments = WorkloadArgs {
            cpu,
            tcp: Some(tcp),
            udp: Some(udp),
            named: None,
        };
        Self::start(place, &arguments)
    }

    /// Starts a server on a CPU that tells its name.
    pub(in super::super) fn named(
        place: &Namespace,
        cpu: usize,
        tcp: u16,
        name: &str,
    ) -> Result<Self> {
        let arguments = WorkloadArgs {
            cpu,
            tcp: Some(tcp),
            udp: None,
            named: Some(name.to_owned()),
        };
        Self::start(place, &arguments)
    }

    fn start(place: &Namespace, arguments: &WorkloadArgs) -> Result<Self> {
        let mut command = place.command(env::current_exe()?);
        command.args(["bench", "workload", "--cpu", &arguments.cpu.to_string()]);
        for (option, port) in [("--tcp", arguments.tcp), ("--udp", arguments.udp)] {
            if let Some(port) = port {
                command.args([option, &port.to_string()]);
            }
        }
        if let Some(name) = &arguments.named {
            command.args(["--named", name]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = format!("the workload in {}", place.name());
        let mut child = command.spawn().with_context(|| format!("{name}: start"))?;
        let requests = child.stdin.take().context("no stdin")?;
        let answers = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut worker = Self {
            name,
            child,
            requests,
            answers,
        };
        let line = worker.line()?;
        ensure!(line == READY, "{}: {line}", worker.name);
        Ok(worker)
    }

    /// Makes connections, which all have to be answered.
    pub(in super::super) fn connect(
        &mut self,
        to: SocketAddrV4,
        connections: u32,
    ) -> Result<Connected> {
        match self.ask(&Request::Connect { to, connections })? {
            Answer::Connected(connected) => Ok(connected),
            other => bail!("{}: {other:?}", self.name),
        }
    }

    /// Begins connections at a steady rate; what became of each.
    pub(in super::super) fn connect_steadily(&mut self, steady: Steady) -> Result<Vec<Attempt>> {
        match self.ask(&Request::Steady(steady))? {
            Answer::Attempts(attempts) => Ok(attempts),
            other => bail!("{}: {other:?}", self.name),
        }
    }

    /// Sends datagrams; how many.
    pub(in super::super) fn flood(&mut self, to: SocketAddrV4, milliseconds: u64) -> Result<u64> {
        self.datagrams(&Request::Flood { to, milliseconds })
    }

    /// How many datagrams have come.
    pub(in super::super) fn count(&mut self) -> Result<u64> {
        self.datagrams(&Request::Count)
    }

    fn datagrams(&mut self, request: &Request) -> Result<u64> {
        match self.ask(request)? {
            Answer::Datagrams(count) => Ok(count),
            other => bail!("{}: {other:?}", self.name),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer> {
        let line = serde_json::to_string(request)? + "\n";
        let written = self.requests.write_all(line.as_bytes());
        written.with_context(|| format!("{}: write", self.name))?;
        let answer = self.line()?;
        match serde_json::from_str(&answer).context("not an answer")? {
            Answer::Failed(error) => bail!("{}: {error}", self.name),
            answer => Ok(answer),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        let read = read.with_context(|| format!("{}: read", self.name))?;
        ensure!(read > 0, "{} ended", self.name);
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
