//! Connections: HTTP/1.1, with TLS or without.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer::{Body, answer};
use super::query::Seen;
use super::shared::{Shared, lock};

/// Listens; on the address of a server that has just been stopped too.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Serves until it is aborted; then all connections are closed.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
                // As when there are no more descriptors.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    shared.note(|log| log.connections += 1);
    let _ = stream.set_nodelay(true);
    let identity = lock(&shared.options).identity.clone();
    match identity {
        None => speak(stream, shared).await,
        Some(identity) => {
            // A handshake that fails is the client's to tell of.
            if let Ok(stream) = TlsAcceptor::from(identity.config()).accept(stream).await {
                speak(stream, shared).await;
            }
        }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(move |request| handle(Arc::clone(&shared), request));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn handle(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let seen = Seen::of(&request);
    shared.note(|log| log.requests.push(seen.clone()));
    let body = request.into_body().collect().await?.to_bytes();
    Ok(answer(shared, seen, body).await)
}
