//! Why a list or a watch ended.

use std::error::Error as _;
use std::time::Duration;

use kube::core::Status;

/// Why a list or a watch ended; it is tried again after all but the last.
#[derive(Debug)]
pub(crate) enum WatchError {
    /// The server answered with an error, at once or within the stream.
    Refused(Box<Status>),
    /// It cannot be reached, or what it sent cannot be read.
    Failed(kube::Error),
    /// It said nothing for so long.
    Silent(Duration),
    /// A stream ended before its list was complete.
    Truncated,
    /// It did not end a watch when it should have.
    NotClosed,
    /// The receiver of changes was dropped.
    ReceiverDropped,
}

impl From<kube::Error> for WatchError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            other => Self::Failed(other),
        }
    }
}

impl WatchError {
    fn code(&self) -> u16 {
        match self {
            Self::Refused(status) => status.code,
            _ => 0,
        }
    }

    /// The server has forgotten what came after the version that was asked for; only
    /// a new list helps ("410 Gone" in the API's concepts).
    pub(super) fn is_expired(&self) -> bool {
        match self {
            Self::Refused(status) => status.code == 410 || status.reason == "Expired",
            _ => false,
        }
    }

    /// The server does not have the kind of object at all.
    pub(super) fn is_of_unknown_kind(&self) -> bool {
        self.code() == 404
    }

    /// The server does not know the request: for one with `sendInitialEvents`, it has
    /// no lists that come as a watch.
    pub(super) fn is_unknown_request(&self) -> bool {
        matches!(self.code(), 400 | 422)
    }

    /// The files that say how to reach the server may have something new by now.
    pub(crate) fn may_be_stale_credentials(&self) -> bool {
        match self {
            Self::Refused(status) => status.code == 401,
            Self::Failed(kube::Error::SerdeError(_)) => false,
            Self::Failed(_) => true,
            _ => false,
        }
    }

    /// Nobody may be at the server's address.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Failed(error) => !matches!(error, kube::Error::SerdeError(_)),
            Self::Silent(_) => true,
            _ => false,
        }
    }

    /// The same request may be answered well later.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(status) => matches!(status.code, 401 | 408 | 429 | 500..),
            _ => true,
        }
    }
}

impl std::fmt::Display for WatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status) => write!(
                f,
                "the API server refuses: {} {}: {}",
                status.code, status.reason, status.message
            ),
            Self::Failed(error) => {
                write!(f, "API server request failed: {error}")?;
                // Some errors name their cause and some do not.
                let mut said = error.to_string();
                let mut cause = error.source();
                while let Some(error) = cause {
                    let more = error.to_string();
                    if !said.contains(&more) {
                        write!(f, ": {more}")?;
                    }
                    said = more;
                    cause = error.source();
                }
                Ok(())
            }
            Self::Silent(time) => write!(f, "no response from the API server for {time:?}"),
            Self::Truncated => f.write_str("the API server broke off a list"),
            Self::NotClosed => f.write_str("the API server did not end a watch in time"),
            Self::ReceiverDropped => f.write_str("the receiver of changes was dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, reason: &str) -> WatchError {
        let status = Status::failure("for a test", reason).with_code(code);
        WatchError::from(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn an_expired_version_has_a_code_or_a_reason() {
        assert!(refused(410, "Gone").is_expired());
        assert!(refused(410, "Expired").is_expired());
        assert!(refused(0, "Expired").is_expired());
        assert!(!refused(500, "InternalError").is_expired());
        assert!(!WatchError::Truncated.is_expired());
    }

    #[test]
    fn only_what_credentials_can_cause_makes_them_be_read_again() {
        assert!(refused(401, "Unauthorized").may_be_stale_credentials());
        assert!(!refused(403, "Forbidden").may_be_stale_credentials());
        assert!(!refused(503, "ServiceUnavailable").may_be_stale_credentials());
        let refused = std::io::Error::other(std::io::ErrorKind::ConnectionRefused.to_string());
        let failed = WatchError::from(kube::Error::Service(Box::new(refused)));
        assert!(failed.may_be_stale_credentials());
        assert_eq!(
            failed.to_string(),
            "API server request failed: ServiceError: connection refused"
        );
    }
}
