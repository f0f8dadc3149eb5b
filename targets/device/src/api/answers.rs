//! From a request that is understood to its answer: in the queue, then at once or as a stream.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::future::ready;
use futures_util::stream::{Stream, StreamExt, iter, once, unfold};
use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::error::ApiError;
use super::request::Understood;
use super::response::{Frame, json};
use super::routes::Shared;
use crate::job::{Event, Job};
use crate::seats::{Answering, Seat};
use crate::worker::Work;

/// A comment goes to a waiting client this often, so that its connection is seen to be alive.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What a queue that is full tells clients to wait, at least and at most.
const RETRY_S: (u64, u64) = (1, 60);

/// Puts a request into the queue and answers it.
pub(crate) async fn answer(
    shared: &Shared,
    seat: &Seat,
    asked: Understood,
) -> Result<Response, ApiError> {
    let number = shared.live.requests.fetch_add(1, Ordering::Relaxed);
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let model = shared.live.totals().loaded.name.clone();
    let kind = if asked.is_chat { "chatcmpl" } else { "cmpl" };
    let frame = Frame::new(format!("{kind}-{created:x}-{number}"), created, model, &asked);
    let (streams, includes_usage) = (asked.streams, asked.includes_usage);
    let mut events = enqueue(shared, seat, asked)?;
    // Headers are sent when the first event is there: until then a refusal can have its own status.
    let Some(first) = events.recv().await else {
        return Err(ApiError::unavailable("is ending"));
    };
    if let Event::Refused(refusal) = first {
        return Err(refusal.into());
    }
    if streams {
        return Ok(stream(frame, first, events, includes_usage));
    }
    whole(&frame, first, events).await
}

/// What the thread that decodes says, to a client that keeps its place for so long.
struct Events {
    receiver: UnboundedReceiver<Event>,
    _answering: Answering,
}

impl Events {
    async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

/// Puts a request into the queue, if there is room.
fn enqueue(shared: &Shared, seat: &Seat, asked: Understood) -> Result<Events, ApiError> {
    if shared.live.draining.load(Ordering::Relaxed) {
        return Err(ApiError::unavailable("is ending"));
    }
    let (reply, receiver) = unbounded_channel();
    let job = Box::new(Job { task: asked.task, reply });
    let waiting = shared.live.waiting.fetch_add(1, Ordering::Relaxed);
    let sent = shared.queue.try_send(Work::Job(job));
    if let Err(error) = sent {
        shared.live.waiting.fetch_sub(1, Ordering::Relaxed);
        shared.live.refused.fetch_add(1, Ordering::Relaxed);
        return Err(match error {
            TrySendError::Full(_) => ApiError::busy(waiting, retry_after_s(shared, waiting)),
            TrySendError::Closed(_) => ApiError::unavailable("is ending"),
        });
    }
    Ok(Events { receiver, _answering: seat.answering() })
}

/// How long the requests that wait will take, from the answers so far.
fn retry_after_s(shared: &Shared, waiting: usize) -> u64 {
    let totals = shared.live.totals();
    let seconds = totals.token.sum_s + totals.first_token.sum_s;
    let each = if totals.answers > 0 { seconds / totals.answers as f64 } else { 1.0 };
    ((each * waiting as f64).ceil() as u64).clamp(RETRY_S.0, RETRY_S.1)
}

/// Waits for the end.
async fn whole(frame: &Frame, first: Event, mut events: Events) -> Result<Response, ApiError> {
    let mut pieces = Vec::new();
    let mut next = Some(first);
    while let Some(event) = next {
        match event {
            Event::Text(piece) => pieces.push(piece),
            Event::Done(summary) => return Ok(json(&frame.whole(&pieces, &summary))),
            Event::Refused(refusal) => return Err(refusal.into()),
        }
        next = events.recv().await;
    }
    Err(ApiError::unavailable("ended before the answer did"))
}

fn stream(frame: Frame, first: Event, events: Events, includes_usage: bool) -> Response {
    let rest = unfold(events, |mut events| async { Some((events.recv().await?, events)) });
    let events = once(ready(first)).chain(rest);
    let chunks = chunks(frame, events, includes_usage);
    Sse::new(chunks).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// Events as chunks, and the mark behind the last.
fn chunks(
    frame: Frame,
    events: impl Stream<Item = Event>,
    includes_usage: bool,
) -> impl Stream<Item = Result<SseEvent, Infallible>> {
    let (mut is_first, mut offset) = (true, 0);
    events.flat_map(move |event| {
        let mut out: Vec<String> = Vec::new();
        match event {
            Event::Text(piece) => {
                out.push(frame.piece(&piece, is_first, offset).to_string());
                offset += piece.text.chars().count();
            }
            Event::Done(summary) => {
                out.push(frame.end(&summary, is_first).to_string());
                out.extend(includes_usage.then(|| frame.usage(&summary).to_string()));
                out.push("[DONE]".into());
            }
            Event::Refused(refusal) => out.push(error_text(&refusal.into())),
        }
        is_first = false;
        iter(out.into_iter().map(|data| Ok(SseEvent::default().data(data))))
    })
}

fn error_text(error: &ApiError) -> String {
    serde_json::to_value(error.body()).unwrap_or(Value::Null).to_string()
}
