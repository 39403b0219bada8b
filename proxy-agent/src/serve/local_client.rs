//! Asking an agent at its own socket.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::REPORT_TIMEOUT;
use super::local::{AUDIT, CONDITION, DESIRED, STATUS};
use crate::model::object::Protocol;
use crate::status::{AuditReport, Condition, DesiredReport, StatusDocument};

/// How long an answer may take: a little longer than the agent waits for its own loop.
const ANSWER_TIMEOUT: Duration = REPORT_TIMEOUT.saturating_add(Duration::from_millis(500));

/// An agent cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no agent, or it does not answer.
    #[error("no answer at {}", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else answers, or the agent cannot.
    #[error("{answer:?} at {} is no answer of an agent", socket.display())]
    Unknown {
        /// The socket.
        socket: PathBuf,
        /// The answer.
        answer: String,
    },
}

impl LocalError {
    /// Whether nobody is there to answer.
    pub fn means_no_agent(&self) -> bool {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::NoAnswer { source, .. }
            if matches!(source.kind(), NotFound | ConnectionRefused))
    }
}

/// The condition of the agent that answers at `socket`.
///
/// # Errors
///
/// There is none, or it does not answer in time.
pub fn condition(socket: &Path) -> Result<Condition, LocalError> {
    let answer = request(socket, "GET", CONDITION)?;
    Condition::of_name(&answer).ok_or_else(|| unknown(socket, answer))
}

/// Its status.
///
/// # Errors
///
/// As of [`condition`].
pub fn status(socket: &Path) -> Result<StatusDocument, LocalError> {
    read(socket, request(socket, "GET", STATUS)?)
}

/// What an audit finds that it makes now.
///
/// # Errors
///
/// As of [`condition`].
pub fn audit(socket: &Path) -> Result<AuditReport, LocalError> {
    read(socket, request(socket, "POST", AUDIT)?)
}

/// What it should serve at a destination.
///
/// # Errors
///
/// As of [`condition`].
pub fn desired(
    socket: &Path,
    at: SocketAddr,
    protocol: Protocol,
) -> Result<DesiredReport, LocalError> {
    let path = format!("{DESIRED}/{protocol}/{at}");
    read(socket, request(socket, "GET", &path)?)
}

fn read<T: DeserializeOwned>(socket: &Path, answer: String) -> Result<T, LocalError> {
    serde_json::from_str(&answer).map_err(|_| unknown(socket, answer))
}

fn unknown(socket: &Path, answer: String) -> LocalError {
    LocalError::Unknown {
        socket: socket.to_owned(),
        answer,
    }
}

/// The body of the answer to a request.
fn request(socket: &Path, method: &str, path: &str) -> Result<String, LocalError> {
    let answer = exchange(socket, method, path).map_err(|source| LocalError::NoAnswer {
        socket: socket.to_owned(),
        source,
    })?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
    match body {
        Some(body) if answer.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        body => Err(unknown(socket, body.unwrap_or(&answer).trim().to_owned())),
    }
}

/// By HTTP/1.0, the server closes the connection where the answer ends.
fn exchange(socket: &Path, method: &str, path: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "{method} {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use tokio::sync::{mpsc, watch};
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::serve::health::tests::report;
    use crate::serve::{ReportClient, ReportRequest, local};
    use crate::status::Detail;

    /// Answers one request as an agent's loop.
    async fn answer(requests: &mut mpsc::Receiver<ReportRequest>, are_attached: bool) {
        let request = requests.recv().await.unwrap();
        let mut report = report(None, true);
        report.devices.are_attached = are_attached;
        if request.detail == Detail::Audit {
            report.audit = Some(AuditReport::not_done("changes are on their way"));
        }
        request.answer.send(report).ok().unwrap();
    }

    #[tokio::test]
    async fn the_condition_is_told_over_a_socket_that_an_agent_before_may_have_left() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/probe.sock");
        assert!(condition(&socket).unwrap_err().means_no_agent());

        fs::create_dir(socket.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        assert!(condition(&socket).unwrap_err().means_no_agent());
        let (sender, mut requests) = mpsc::channel(1);
        let before = watch::Sender::new(Some(Condition::Standby));
        let reports = ReportClient::new(sender, watch::channel(false).1);
        let served = tokio::spawn(local(socket.clone(), before.subscribe(), reports));
        let at = socket.clone();
        let asked = spawn_blocking(move || {
            while condition(&at).is_err() {}
            condition(&at)
        });
        assert_eq!(asked.await.unwrap().unwrap(), Condition::Standby);
        before.send_replace(None);
        for (are_attached, expected) in [(false, Condition::Starting), (true, Condition::Ready)] {
            let socket = socket.clone();
            let asked = spawn_blocking(move || {
                while condition(&socket).is_err() {}
                condition(&socket)
            });
            answer(&mut requests, are_attached).await;
            answer(&mut requests, are_attached).await;
            assert_eq!(asked.await.unwrap().unwrap(), expected);
        }
        let at = socket.clone();
        let asked = spawn_blocking(move || audit(&at));
        answer(&mut requests, true).await;
        let found = asked.await.unwrap().unwrap();
        assert_eq!(found.not_done.as_deref(), Some("changes are on their way"));

        drop(requests);
        let at = socket.clone();
        let late = spawn_blocking(move || condition(&at)).await.unwrap();
        assert_eq!(late.unwrap(), Condition::Unhealthy);
        let late = spawn_blocking(move || status(&socket)).await.unwrap();
        assert!(matches!(late, Err(LocalError::Unknown { .. })));
        served.abort();
    }
}
