//! Errors as the API has them.

use serde_json::{Value, json};

use super::kind::Place;

/// An error: code, reason, message.
#[derive(Debug)]
pub(super) struct Failure(pub(super) u16, pub(super) &'static str, pub(super) String);

impl Failure {
    pub(super) fn bad_request(message: String) -> Self {
        Self(400, "BadRequest", message)
    }

    pub(super) fn invalid(message: &str) -> Self {
        Self(422, "Invalid", format!("ListOptions is invalid: {message}"))
    }

    pub(super) fn not_found(place: &Place, name: &str) -> Self {
        let message = format!("{} {name:?} not found", place.kind.plural);
        Self(404, "NotFound", message)
    }

    pub(super) fn invalid_object(place: &Place, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is invalid: {why}", place.kind.name);
        Self(422, "Invalid", message)
    }

    pub(super) fn expired(version: u64, newest: u64) -> Self {
        let message = format!("too old resource version: {version} ({newest})");
        Self(410, "Expired", message)
    }

    /// The `Status` object.
    pub(super) fn status(&self) -> Value {
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.2, "reason": self.1, "code": self.0,
        })
    }

    /// A refusal that a test asked for.
    pub(super) fn of_code(code: u16) -> Self {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Self(code, reason, "refused for a test".to_owned())
    }
}
