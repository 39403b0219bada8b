//! A server for thousands of connections at once and a second; it answers like
//! [`super::mirror`]'s, at the same port.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::mpsc,
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    runtime,
    sync::oneshot,
};

use super::{mirror, namespace::Namespace, node::Pod};

/// A running server, on a thread of this process; it ends when dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Echo {
    /// Starts a server in each pod.
    pub fn start_all<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Result<Vec<Self>> {
        let start = |pod: &Pod| Self::start(&pod.namespace, &pod.name);
        pods.into_iter().map(start).collect()
    }

    /// Starts a server, which calls itself `name`.
    pub fn start(at: &Namespace, name: &str) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let name = name.to_owned();
        let thread = at.spawn(move || {
            let built = runtime::Builder::new_current_thread().enable_io().build();
            let Ok(runtime) = built else { return };
            runtime.block_on(async {
                match listen() {
                    Ok((tcp, udp)) => {
                        let _ = ready.send(Ok(()));
                        tokio::select! {
                            () = serve(&tcp, &udp, &name) => {}
                            _ = stopped => {}
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        started.recv().context("the server's thread")??;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn listen() -> Result<(TcpListener, UdpSocket)> {
    let at = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), mirror::PORT);
    let tcp = TcpSocket::new_v6()?;
    tcp.set_reuseaddr(true)?;
    tcp.bind(at).context("bind")?;
    let udp = std::net::UdpSocket::bind(at).context("bind")?;
    udp.set_nonblocking(true)?;
    Ok((tcp.listen(8192)?, UdpSocket::from_std(udp)?))
}

async fn serve(tcp: &TcpListener, udp: &UdpSocket, name: &str) {
    let answer = |to: SocketAddr| format!("{name} {}\n", to.ip().to_canonical());
    let connections = async {
        loop {
            // What fails is a connection that has ended already.
            if let Ok((stream, peer)) = tcp.accept().await {
                tokio::spawn(talk(stream, answer(peer)));
            }
        }
    };
    let datagrams = async {
        let mut buffer = [0; 2048];
        loop {
            if let Ok((_, from)) = udp.recv_from(&mut buffer).await {
                let _ = udp.send_to(answer(from).as_bytes(), from).await;
            }
        }
    };
    tokio::join!(connections, datagrams);
}

/// Answers each question, until the client has no more.
async fn talk(mut stream: TcpStream, answer: String) {
    let mut buffer = [0; 128];
    while let Ok(1..) = stream.read(&mut buffer).await {
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
