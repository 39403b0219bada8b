//! Processes that connect or send, and say what goes over the wire then.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context as _, Result, bail};
use proxy_agent::inspect::explain::Question;
use proxy_agent::model::object::Protocol;
use proxy_tests::lab::Namespace;

/// Reads a protocol, an address and a port a line; makes a socket of its own for each, and prints
/// where its first packet goes, or else the error.
const SCRIPT: &str = r#"
import errno, select, socket, struct, sys

wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wire.setblocking(False)

def packets():
    while True:
        try:
            yield wire.recv(200)
        except BlockingIOError:
            return

def ends(packet):
    if packet[0] >> 4 == 4:
        kind, addresses, rest = socket.AF_INET, (12, 16, 20), packet[20:]
        protocol = packet[9]
    else:
        kind, addresses, rest = socket.AF_INET6, (8, 24, 40), packet[40:]
        protocol = packet[6]
    at = socket.inet_ntop(kind, packet[addresses[1]:addresses[2]])
    source, destination = struct.unpack("!HH", rest[:4])
    return protocol, source, (f"[{at}]" if ":" in at else at) + f":{destination}"

def sent(protocol, port):
    for packet in packets():
        if len(packet) >= 28 and packet[0] >> 4 in (4, 6):
            its, source, destination = ends(packet)
            if (its, source) == (protocol, port):
                return destination

def ask(protocol, address, port):
    is_tcp = protocol == "TCP"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    it = socket.socket(family, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
    it.setblocking(False)
    it.bind(("", 0))
    own = it.getsockname()[1]
    for _ in packets():
        pass
    error = None
    try:
        if is_tcp:
            it.connect((address, port))
        else:
            it.sendto(b"?", (address, port))
    except BlockingIOError:
        pass
    except OSError as failure:
        error = errno.errorcode[failure.errno]
    number = 6 if is_tcp else 17
    # One that is refused by the peer was sent all the same.
    destination = sent(number, own)
    while destination is None and error is None:
        if not select.select([wire], [], [], 2)[0]:
            error = "nothing"
        destination = sent(number, own)
    it.close()
    return destination or error

for line in sys.stdin:
    protocol, address, port = line.split()
    print(ask(protocol, address, int(port)), flush=True)
"#;

/// What became of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CallOutcome {
    /// The first packet goes there.
    SentTo(SocketAddr),
    /// `ECONNREFUSED`, and nothing was sent.
    Refused,
    /// `ETIMEDOUT`, and nothing was sent.
    TimedOut,
}

/// A process in a namespace.
pub(crate) struct Caller {
    process: Child,
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Caller {
    pub(crate) fn start(namespace: &Namespace) -> Result<Self> {
        let mut command = namespace.command("python3");
        command.args(["-c", SCRIPT]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let questions = process.stdin.take().context("no stdin")?;
        let answers = process.stdout.take().context("no stdout")?;
        Ok(Self {
            process,
            questions,
            answers: BufReader::new(answers).lines(),
        })
    }

    /// Connects by TCP, or sends a datagram.
    pub(crate) fn call(&mut self, question: &Question) -> Result<CallOutcome> {
        let Question {
            destination,
            protocol,
            ..
        } = question;
        anyhow::ensure!(*protocol != Protocol::Sctp, "no socket of SCTP is made");
        let (address, port) = (destination.ip(), destination.port());
        writeln!(self.questions, "{protocol} {address} {port}")?;
        let answer = self.answers.next().context("the process ended")??;
        Ok(match answer.as_str() {
            "ECONNREFUSED" => CallOutcome::Refused,
            "ETIMEDOUT" => CallOutcome::TimedOut,
            "nothing" => bail!("{question:?}: no error, and nothing was sent"),
            answer => {
                let to = answer.parse();
                CallOutcome::SentTo(to.with_context(|| format!("{question:?}: {answer}"))?)
            }
        })
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
