//! The servers: one that answers connections, one that counts datagrams.

use std::{
    io::{IoSliceMut, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, setsockopt, sockopt::RcvBufForce};

use super::connect::QUESTION;

/// Datagrams that are taken in one call.
const AT_ONCE: usize = 64;
/// Bytes that wait to be taken.
const BUFFER: usize = 32 << 20;

/// Of a thread that answers one connection.
const STACK: usize = 64 * 1024;

/// Answers connections in a thread of its own, one after the other: there is one client.
pub(super) fn answer(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context("listen")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            converse(stream);
        }
    });
    Ok(())
}

/// Tells a name to whoever asks, over both IP versions, each in a thread of its own: some may
/// never ask.
pub(super) fn tell(port: u16, name: &str) -> Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).context("listen")?;
    let answer = format!("{name}\n");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = answer.clone();
            let told = move || {
                let mut question = [0; QUESTION.len()];
                stream.read_exact(&mut question).ok()?;
                stream.write_all(answer.as_bytes()).ok()?;
                // The client closes first, so that the tuple rests at its side.
                stream.read(&mut question).ok()
            };
            // Where there is no thread for it, the connection is closed.
            let _ = thread::Builder::new().stack_size(STACK).spawn(told);
        }
    });
    Ok(())
}

/// Until the client closes or is gone.
fn converse(mut stream: TcpStream) -> Option<()> {
    let mut question = [0; QUESTION.len()];
    loop {
        stream.read_exact(&mut question).ok()?;
        stream.write_all(&question).ok()?;
    }
}

/// How many datagrams have come.
pub(super) struct Count(Arc<AtomicU64>);

impl Count {
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts datagrams in a thread of its own.
pub(super) fn count(port: u16) -> Result<Count> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).context("bind")?;
    setsockopt(&socket, RcvBufForce, &BUFFER).context("SO_RCVBUFFORCE")?;
    let count = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        while let Ok(some) = take(&socket) {
            counted.fetch_add(some, Ordering::Relaxed);
        }
    });
    Ok(Count(count))
}

/// Takes what waits, at least one datagram; their contents do not matter.
fn take(socket: &UdpSocket) -> nix::Result<u64> {
    let mut headers = MultiHeaders::<()>::preallocate(AT_ONCE, None);
    // Nothing is copied where no bytes are asked for.
    let mut slices: [[IoSliceMut; 0]; AT_ONCE] = std::array::from_fn(|_| []);
    let flags = MsgFlags::MSG_WAITFORONE;
    let taken = recvmmsg(
        socket.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        flags,
        None,
    )?;
    Ok(taken.count() as u64)
}
