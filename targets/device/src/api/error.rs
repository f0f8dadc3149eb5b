//! Errors as OpenAI's clients expect them.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::response::json;
use crate::job::Refusal;

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<&'static str>,
    message: String,
    retry_after_s: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, kind, code: None, param: None, message, retry_after_s: None }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A field of the request is wrong.
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param), ..Self::invalid(message) }
    }

    /// The request is longer than this service reads.
    pub(crate) fn too_large(most_bytes: usize) -> Self {
        let message = format!("the request has more than {most_bytes} bytes; send a shorter one");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", message)
    }

    /// The request did not arrive in time.
    pub(crate) fn too_slow() -> Self {
        let message = "the request did not arrive in time; send it again";
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", message)
    }

    /// Not JSON.
    pub(crate) fn media_type() -> Self {
        let message = "the request is not JSON; send the header \"Content-Type: application/json\"";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", message)
    }

    /// No key, or a wrong one.
    pub(crate) fn unauthorized() -> Self {
        let message = "the API key is missing or wrong; send it as \"Authorization: Bearer KEY\"";
        let error = Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message);
        Self { code: Some("invalid_api_key"), ..error }
    }

    /// Nothing is there.
    pub(crate) fn not_found(path: &str) -> Self {
        let message = format!(
            "there is no {path}; the service answers /v1/completions, /v1/chat/completions, /v1/models, \
             /v1/dynamax, /health, /metrics and /"
        );
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// Another method is expected.
    pub(crate) fn method() -> Self {
        let message = "this path takes another method";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", message)
    }

    /// The queue is full.
    pub(crate) fn busy(waiting: usize, retry_after_s: u64) -> Self {
        let message = format!("{waiting} requests are waiting; try again in {retry_after_s} s");
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", message);
        Self { code: Some("queue_full"), retry_after_s: Some(retry_after_s), ..error }
    }

    /// The service starts, or ends.
    pub(crate) fn unavailable(why: &str) -> Self {
        let message = format!("the service {why}; try again");
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        Self { code: Some("unavailable"), retry_after_s: Some(5), ..error }
    }

    /// The power meter is broken, and the device is told to stop then.
    pub(crate) fn meter() -> Self {
        let message = "the power meter is broken, and [power] on_meter_fault is \"stop\": mend it, or use \"continue\"";
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_error", message);
        Self { code: Some("power_meter_broken"), retry_after_s: Some(30), ..error }
    }

    /// As JSON, also inside a stream.
    pub(crate) fn body(&self) -> Body<'_> {
        let Self { kind, code, param, message, .. } = self;
        Body { error: Inner { message, r#type: kind, param: *param, code: *code } }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Request(message) => Self::invalid(message),
            Refusal::Meter => Self::meter(),
        }
    }
}

/// OpenAI's form.
#[derive(Serialize)]
pub(crate) struct Body<'e> {
    error: Inner<'e>,
}

#[derive(Serialize)]
struct Inner<'e> {
    message: &'e str,
    r#type: &'e str,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, json(&self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
