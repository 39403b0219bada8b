//! Connections of HTTP clients.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Connections that one listener serves at a time; others wait in the kernel's queue.
/// Load balancers and probes ask one at a time each, and who opens more must not use
/// up the agent's memory and descriptors.
const MAX_CONNECTIONS: usize = 1024;

/// How long a client may take for the head of a request, or be silent before it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after a failed accept, as when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on `address`.
///
/// # Errors
///
/// The address is not this machine's, or the port is taken.
pub(super) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves `router` until it is dropped; then listener and connections are closed.
pub(super) async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, router.clone()));
                    }
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// How it ends is the client's concern.
async fn connection(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::task::JoinHandle;

    use super::*;

    /// A server on a port of its own.
    async fn start() -> (SocketAddr, JoinHandle<()>) {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "here"));
        (address, tokio::spawn(serve(listener, router)))
    }

    // Time leaps ahead where nothing else happens.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_hung_up_on() {
        let (address, server) = start().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HT").await.unwrap();
        let began = tokio::time::Instant::now();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert!(began.elapsed() + Duration::from_secs(1) >= HEADER_TIMEOUT);
        assert!(!server.is_finished());
    }

    #[tokio::test]
    async fn with_its_end_connections_are_closed_and_the_port_is_free() {
        let (address, server) = start().await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut said = [0; 512];
        let length = client.read(&mut said).await.unwrap();
        assert!(said[..length].starts_with(b"HTTP/1.1 200"));
        server.abort();
        let _ = server.await;
        listen(address).await.unwrap();
        // The client sees the end of its connection.
        assert!(matches!(client.read(&mut said).await, Ok(0) | Err(_)));
    }
}
