//! What was found, and what to do about it.

use serde::Serialize;

/// How bad something is. The worst one of all counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// The agent works, and something is not as good as it could be, or will have to be done.
    Warning,
    /// It could not be found out.
    Unknown,
    /// The agent does not work here, or Services do not.
    Error,
}

impl State {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a stable name.
    pub check: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, where there is something to do.
    pub advice: Option<String>,
}

impl Finding {
    /// Nothing is to be done.
    pub(super) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    /// Something is to be done.
    pub(super) fn of(
        state: State,
        check: impl Into<String>,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            state,
            advice: Some(advice.into()),
            ..Self::ok(check, found)
        }
    }
}
