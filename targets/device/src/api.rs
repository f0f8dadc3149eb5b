//! HTTP: OpenAI's completions and chat completions, and what a device adds to them.
//!
//! ```text
//! POST /v1/completions, /v1/chat/completions   answers, at once or as server-sent events
//! GET  /v1/models                              what is loaded
//! GET  /v1/dynamax, PUT /v1/dynamax/budget     gauges for the page; the device's budget
//! GET  /health, /metrics, /                    for machines, for Prometheus, for people
//! ```

mod answers;
mod error;
mod request;
mod response;
mod routes;

pub(crate) use routes::{Shared, router};
