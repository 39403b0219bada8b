//! The kubelet's probes, over a Unix socket of the agent's own.
//!
//! The health port may be another proxy's, such as that of the kube-proxy that is to be
//! replaced; that socket can only be this agent's. It answers each connection with one line,
//! the name of the agent's [`Condition`].

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tracing::{error, info};

use super::{ACCEPT_PAUSE, REPORT_TIMEOUT, ReportClient};
use crate::status::{Condition, Detail};

/// How long [`ask`] waits: a little longer than the agent does for its own loop.
const ANSWER_TIMEOUT: Duration = REPORT_TIMEOUT.saturating_add(Duration::from_millis(500));

/// An agent cannot be asked for its condition.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// There is no agent, or it does not answer.
    #[error("no answer at {}", socket.display())]
    NoAnswer {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else answers.
    #[error("{answer:?} at {} is no condition of an agent", socket.display())]
    Unknown {
        /// The socket.
        socket: PathBuf,
        /// The answer.
        answer: String,
    },
}

/// Answers probes at `socket`, for as long as the agent runs: with what `before` says while
/// the agent's loop does not run yet.
pub async fn probes(
    socket: PathBuf,
    before: watch::Receiver<Option<Condition>>,
    reports: ReportClient,
) {
    let listener = match listen(&socket) {
        Ok(listener) => listener,
        Err(error) => {
            error!(socket = %socket.display(), "cannot answer probes: {error}");
            return;
        }
    };
    info!(what = "probes", socket = %socket.display(), "listening");
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let reports = reports.clone();
        let before = *before.borrow();
        tokio::spawn(async move {
            let condition = match before {
                Some(before) => before,
                None => condition_of(&reports).await,
            };
            // Who asked may have gone.
            let _ = stream.write_all(condition.name().as_bytes()).await;
        });
    }
}

async fn condition_of(reports: &ReportClient) -> Condition {
    match reports.request(Detail::Health).await {
        Ok(report) => report.condition(),
        Err(_) => Condition::Unhealthy,
    }
}

/// Listens at `socket`, in the place of an agent that was killed.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(socket)
}

/// The condition of the agent that answers at `socket`.
///
/// # Errors
///
/// There is none, or it does not answer in time.
pub fn ask(socket: &Path) -> Result<Condition, ProbeError> {
    let answer = read(socket).map_err(|source| ProbeError::NoAnswer {
        socket: socket.to_owned(),
        source,
    })?;
    Condition::of_name(&answer).ok_or_else(|| ProbeError::Unknown {
        socket: socket.to_owned(),
        answer,
    })
}

fn read(socket: &Path) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::serve::ReportRequest;
    use crate::serve::health::tests::report;

    /// Answers one request as an agent's loop.
    async fn answer(requests: &mut mpsc::Receiver<ReportRequest>, are_attached: bool) {
        let request = requests.recv().await.unwrap();
        let mut report = report(None, true);
        report.devices.are_attached = are_attached;
        request.answer.send(report).ok().unwrap();
    }

    #[tokio::test]
    async fn the_condition_is_told_over_a_socket_that_an_agent_before_may_have_left() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/probe.sock");
        assert!(matches!(ask(&socket), Err(ProbeError::NoAnswer { .. })));

        fs::create_dir(socket.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&socket).unwrap());
        let (sender, mut requests) = mpsc::channel(1);
        let before = watch::Sender::new(Some(Condition::Standby));
        let reports = ReportClient::new(sender, watch::channel(false).1);
        let served = tokio::spawn(probes(socket.clone(), before.subscribe(), reports));
        let asked = socket.clone();
        let asked = spawn_blocking(move || {
            while ask(&asked).is_err() {}
            ask(&asked)
        });
        assert_eq!(asked.await.unwrap().unwrap(), Condition::Standby);
        before.send_replace(None);
        for (are_attached, expected) in [(false, Condition::Starting), (true, Condition::Ready)] {
            let socket = socket.clone();
            let asked = spawn_blocking(move || {
                while ask(&socket).is_err() {}
                ask(&socket)
            });
            answer(&mut requests, are_attached).await;
            answer(&mut requests, are_attached).await;
            assert_eq!(asked.await.unwrap().unwrap(), expected);
        }
        drop(requests);
        let late = spawn_blocking(move || ask(&socket)).await.unwrap();
        assert_eq!(late.unwrap(), Condition::Unhealthy);
        served.abort();
    }
}
