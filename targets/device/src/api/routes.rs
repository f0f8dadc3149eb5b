//! Which request goes where, and what is checked on the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Router};
use dynamax_bundle::Hash;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;

use super::answers::answer;
use super::error::ApiError;
use super::request;
use super::response::json as respond;
use crate::live::Live;
use crate::metrics;
use crate::seats::Seat;
use crate::worker::Work;

/// The page for people.
const PAGE: &str = include_str!("../page.html");
/// Longest request: a prompt of about a quarter million tokens, which take some 70 MiB while they are cut.
const MOST_BODY_BYTES: usize = 1 << 20;
/// A body must have arrived after this.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What every request sees.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) live: Arc<Live>,
    pub(crate) queue: Sender<Work>,
    /// The hash of what clients must present, so that comparing takes the same time for all.
    pub(crate) key: Option<Hash>,
}

/// All routes.
pub(crate) fn router(shared: Shared) -> Router {
    let guarded = Router::new()
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat_completions))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route("/v1/dynamax", get(gauges))
        .route("/v1/dynamax/budget", put(budget))
        .route("/metrics", get(metrics_text))
        .route_layer(from_fn_with_state(shared.clone(), require_key));
    Router::new()
        .route("/", get(page))
        .route("/health", get(health))
        .merge(guarded)
        .fallback(not_found)
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .with_state(shared)
}

/// Lets requests pass that have the key, if there is one.
async fn require_key(
    State(shared): State<Shared>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = shared.key else { return Ok(next.run(request).await) };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    match given.map(|given| Hash::of(given.trim().as_bytes())) {
        Some(given) if given == key => Ok(next.run(request).await),
        _ => Err(ApiError::unauthorized()),
    }
}

/// Reads a body of JSON, within bounds of length and time.
///
/// Nothing but JSON is read: a page in a browser can send a form to any address without asking, but not this.
async fn json_body(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, ApiError> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !media.is_some_and(|media| media.trim_start().starts_with("application/json")) {
        return Err(ApiError::media_type());
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length: Option<usize> = length.and_then(|length| length.parse().ok());
    if length.is_some_and(|length| length > MOST_BODY_BYTES) {
        return Err(ApiError::too_large(MOST_BODY_BYTES));
    }
    let arrived = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MOST_BODY_BYTES)).await;
    let bytes = arrived.map_err(|_| ApiError::too_slow())?;
    let bytes = bytes.map_err(|_| ApiError::too_large(MOST_BODY_BYTES))?;
    Ok(bytes.into())
}

async fn completions(
    State(shared): State<Shared>,
    Extension(seat): Extension<Seat>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = request::completion(&json_body(&headers, body).await?)?;
    answer(&shared, &seat, asked).await
}

async fn chat_completions(
    State(shared): State<Shared>,
    Extension(seat): Extension<Seat>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = request::chat(&json_body(&headers, body).await?)?;
    answer(&shared, &seat, asked).await
}

fn model_entry(live: &Live) -> Value {
    let loaded = &live.totals().loaded;
    json!({
        "id": loaded.name,
        "object": "model",
        "created": loaded.since_epoch_s,
        "owned_by": "dynamax",
        "dynamax": {
            "architecture": loaded.architecture,
            "hash": loaded.hash,
            "slot": loaded.slot,
            "counter": loaded.counter,
            "context": loaded.context(),
            "chat_template": loaded.has_chat_template,
        },
    })
}

async fn models(State(shared): State<Shared>) -> Response {
    respond(&json!({ "object": "list", "data": [model_entry(&shared.live)] }))
}

async fn model(State(shared): State<Shared>, uri: Uri) -> Result<Response, ApiError> {
    let entry = model_entry(&shared.live);
    let asked = uri.path().rsplit('/').next().unwrap_or_default();
    if entry["id"] == asked { Ok(respond(&entry)) } else { Err(ApiError::not_found(uri.path())) }
}

/// What the page shows.
async fn gauges(State(shared): State<Shared>) -> Response {
    let live = &shared.live;
    let totals = live.totals();
    let (recent, loaded, budget) = (totals.recent(), &totals.loaded, totals.budget);
    respond(&json!({
        "model": loaded.name,
        "segments": loaded.segments,
        "energy_source": loaded.energy_source,
        "context": loaded.context(),
        "recent": {
            "ms_per_token": recent.ms_per_token,
            "depth": recent.depth,
            "energy_mj_per_token": recent.energy_mj_per_token,
            "agreement": null,
        },
        "budget": {
            "energy_mj_per_token": budget.energy_mj_per_token,
            "latency_ms_per_token": budget.latency_ms_per_token,
        },
        "power_mode": totals.power_mode,
        "tokens": totals.tokens,
        "waiting": live.waiting.load(Ordering::Relaxed),
        "uptime_s": live.uptime().as_secs(),
    }))
}

/// Changes the device's budget until its next start.
async fn budget(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let budget = request::new_budget(&json_body(&headers, body).await?)?;
    shared.live.totals().budget = budget;
    Ok(gauges(State(shared)).await)
}

async fn health(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let live = &shared.live;
    if live.draining.load(Ordering::Relaxed) {
        return Err(ApiError::unavailable("is ending"));
    }
    if !live.ready.load(Ordering::Acquire) {
        return Err(ApiError::unavailable("is loading"));
    }
    Ok(respond(&json!({ "status": "ok" })))
}

async fn metrics_text(State(shared): State<Shared>) -> impl IntoResponse {
    let media = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, media)], metrics::text(&shared.live))
}

async fn page() -> impl IntoResponse {
    // Nothing is loaded from elsewhere, and nothing else may frame it.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                  img-src data:; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(PAGE))
}

async fn not_found(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(&format!("{method} {}", uri.path()))
}
