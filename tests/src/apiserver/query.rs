//! A request, as far as it matters.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hyper::{Method, Request, header};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET`, ...
    pub method: Method,
    /// Its path.
    pub path: String,
    /// The parameters of its query.
    pub parameters: BTreeMap<String, String>,
    /// The bearer token, if there was one.
    pub token: Option<String>,
    /// The media type of its body, if it said one.
    pub content_type: Option<String>,
    /// When it came.
    pub at: Instant,
}

impl Seen {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let query = request.uri().query().unwrap_or_default();
        let header = |name| request.headers().get(name)?.to_str().ok();
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            parameters: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            token: header(header::AUTHORIZATION)
                .and_then(|value| value.strip_prefix("Bearer "))
                .map(|token| token.trim().to_owned()),
            content_type: header(header::CONTENT_TYPE).map(ToOwned::to_owned),
            at: Instant::now(),
        }
    }

    /// A parameter; empty is as good as absent, as in the real server.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let value = self.parameters.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Whether it asks for a watch.
    pub fn is_watch(&self) -> bool {
        self.flag("watch")
    }

    /// Whether it asks for a list that comes as a watch.
    pub fn is_streaming_list(&self) -> bool {
        self.is_watch() && self.flag("sendInitialEvents")
    }

    /// Whether it is for a kind, by the last part of its path.
    pub fn is_of(&self, plural: &str) -> bool {
        self.path.rsplit('/').next() == Some(plural)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, String> {
        self.parameter(name)
            .map(str::parse)
            .transpose()
            .map_err(|error| format!("{name}: {error}"))
    }

    /// How long a watch may run; the real server chooses at random from half an hour
    /// on where it is not said.
    pub(super) fn time_limit(&self) -> Result<Duration, String> {
        let seconds = self.number("timeoutSeconds")?;
        let seconds = seconds.filter(|seconds| *seconds > 0).unwrap_or(1800);
        Ok(Duration::from_secs(seconds))
    }
}
