//! TCP connections with both ends in the test's hands: either can be silent, close one
//! direction, or reset, whenever the test wants it.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{mirror, namespace::Namespace, node::Pod, sockets};

const TIMEOUT: Duration = Duration::from_secs(10);
const TEXT: &[u8] = b"something";

/// Listening sockets of pods, at the mirror's port.
#[derive(Debug)]
pub struct Listeners(Vec<(String, TcpListener)>);

/// Both ends of a connection.
#[derive(Debug)]
pub struct Pair {
    /// The client's.
    pub client: TcpStream,
    /// The endpoint's.
    pub server: TcpStream,
    /// The pod that has accepted it.
    pub pod: String,
}

impl Listeners {
    /// Listens in each pod.
    pub fn start<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<Self> {
        let listen = |pod: &Pod| -> Result<_> {
            let at = (Ipv6Addr::UNSPECIFIED, mirror::PORT);
            let listener = pod.namespace.run(|| TcpListener::bind(at))??;
            listener.set_nonblocking(true)?;
            Ok((pod.name.clone(), listener))
        };
        Ok(Self(pods.into_iter().map(listen).collect::<Result<_>>()?))
    }

    /// Connects from any port.
    pub fn connect(&self, from: &Namespace, to: SocketAddr) -> Result<Pair> {
        self.connect_from(from, 0, to)
    }

    /// Connects from a port of one's choice.
    pub fn connect_from(&self, from: &Namespace, port: u16, to: SocketAddr) -> Result<Pair> {
        let client = from.run(|| sockets::connect_from(port, to, TIMEOUT))??;
        let (pod, server) = self.accept()?;
        let mut pair = Pair {
            client,
            server,
            pod,
        };
        pair.talk()?;
        Ok(pair)
    }

    fn accept(&self) -> Result<(String, TcpStream)> {
        let deadline = Instant::now() + TIMEOUT;
        while Instant::now() < deadline {
            for (pod, listener) in &self.0 {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false)?;
                        stream.set_read_timeout(Some(TIMEOUT))?;
                        return Ok((pod.clone(), stream));
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error).context("accept"),
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!("a connection that nobody has accepted")
    }
}

impl Pair {
    /// Where the client is, as the client knows it.
    pub fn source(&self) -> Result<SocketAddr> {
        Ok(self.client.local_addr()?)
    }

    /// Sends something each way.
    pub fn talk(&mut self) -> Result<()> {
        send(&mut self.client, &mut self.server).context("from the client to the endpoint")?;
        self.answer()
    }

    /// Sends something from the endpoint to the client.
    pub fn answer(&mut self) -> Result<()> {
        send(&mut self.server, &mut self.client).context("from the endpoint to the client")
    }

    /// Sends something from the client, which the endpoint does not read.
    pub fn write(&mut self) -> Result<()> {
        self.client.write_all(TEXT).context("write")
    }

    /// Ends it in order, the endpoint first, so that the client's port is free at once.
    pub fn close(mut self) -> Result<()> {
        self.server.shutdown(std::net::Shutdown::Write)?;
        ensure!(self.client.read(&mut [0])? == 0, "no end of the connection");
        drop(self.client);
        ensure!(self.server.read(&mut [0])? == 0, "no end of the connection");
        Ok(())
    }
}

fn send(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    from.write_all(TEXT).context("write")?;
    let mut text = [0; TEXT.len()];
    to.read_exact(&mut text).context("read")?;
    ensure!(text == TEXT, "something else came: {text:?}");
    Ok(())
}
