//! Clients of all kinds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::watch::Seen;
use crate::service::{Client, Service};

/// What a client does, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Conversations that grow, streamed.
    Talks,
    /// Completions of prompts of many lengths, with probabilities.
    Completes,
    /// Asks for a long answer and leaves.
    Leaves,
    /// Sends what is no request.
    IsRude,
    /// Looks at the page and the gauges, and turns the budget.
    Looks,
}

pub(super) const KINDS: [Kind; 5] =
    [Kind::Talks, Kind::Completes, Kind::Leaves, Kind::IsRude, Kind::Looks];

/// Time between two requests of one client, so that the service is idle now and then.
const PAUSE: Duration = Duration::from_millis(100);

/// What no client should send.
const NOT_HTTP: [&[u8]; 6] = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"messag",
    b"",
];

/// All clients, and what they have seen.
#[derive(Debug)]
pub(super) struct Load {
    client: Client,
    address: String,
    seen: Mutex<Seen>,
}

impl Load {
    pub(super) fn new(service: &Service) -> Self {
        Self { client: service.client(), address: service.address.clone(), seen: Mutex::default() }
    }

    /// What has been seen since the last time.
    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self, note: impl FnOnce(&mut Seen)) {
        note(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Is a client of this kind until `stop`.
    pub(super) fn go_on(&self, kind: Kind, stop: &AtomicBool) {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            let done = match kind {
                Kind::Talks => self.talk(round),
                Kind::Completes => self.complete(round),
                Kind::Leaves => self.leave(round),
                Kind::IsRude => self.be_rude(round),
                Kind::Looks => self.look(round),
            };
            if let Err(error) = done {
                self.note(|seen| seen.failures += 1);
                eprintln!("{kind:?}: {error:#}");
            }
            round += 1;
            std::thread::sleep(PAUSE);
        }
    }

    fn talk(&self, round: u64) -> Result<()> {
        let mut messages = vec![json!({ "role": "system", "content": "Be brief." })];
        for turn in 0..=round % 4 {
            let words = format!("And what did the captain say on day {}?", round + turn);
            messages.push(json!({ "role": "user", "content": words }));
            let body = json!({ "messages": messages, "max_tokens": 16 + 16 * turn, "temperature": 0.8,
                "seed": round, "stream": true, "dynamax": { "ignore_eos": true } });
            let (mut text, mut times) = (String::new(), Vec::new());
            self.client.stream("/v1/chat/completions", &body, |event| {
                text += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
                let tokens = event["dynamax"]["tokens"].as_array();
                times.extend(tokens.into_iter().flatten().filter_map(|token| token["ms"].as_f64()));
                true
            })?;
            messages.push(json!({ "role": "assistant", "content": text }));
            self.note(|seen| {
                seen.answers += 1;
                // The first has waited for its prompt.
                seen.token_ms.extend(times.iter().skip(1));
            });
        }
        Ok(())
    }

    fn complete(&self, round: u64) -> Result<()> {
        let prompt: Vec<u64> =
            (0..1 + round * 37 % 300).map(|at| 5 + (at * 7 + round) % 200).collect();
        let body = json!({ "prompt": prompt, "max_tokens": 1 + round % 40, "temperature": 1.0, "seed": round,
            "logprobs": round % 6, "stop": ["never said this way"] });
        let (status, text) = self.client.post("/v1/completions", &body)?;
        ensure!(status == 200 || status == 429, "a completion: {status}: {text}");
        self.note(|seen| match status {
            200 => seen.answers += 1,
            _ => seen.refusals += 1,
        });
        Ok(())
    }

    fn leave(&self, round: u64) -> Result<()> {
        let body = json!({ "prompt": "Once", "max_tokens": 1000, "temperature": 0, "stream": true,
            "dynamax": { "ignore_eos": true } });
        let mut left = 1 + round % 20;
        self.client.stream("/v1/completions", &body, |_| {
            left -= 1;
            left > 0
        })?;
        self.note(|seen| seen.answers += 1);
        Ok(())
    }

    fn be_rude(&self, round: u64) -> Result<()> {
        let wrong: [Value; 4] = [
            json!({ "prompt": {} }),
            json!({ "prompt": [u32::MAX] }),
            json!({ "messages": [], "tools": [{}] }),
            json!("x".repeat(100_000)),
        ];
        let (status, text) =
            self.client.post("/v1/completions", &wrong[round as usize % wrong.len()])?;
        ensure!(status == 400, "a wrong body: {status}: {text}");
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(NOT_HTTP[round as usize % NOT_HTTP.len()])?;
        // Some wait to be told, some do not.
        if round.is_multiple_of(2) {
            stream.shutdown(std::net::Shutdown::Write)?;
            let _ = stream.read_to_end(&mut Vec::new());
        }
        self.note(|seen| seen.refusals += 1);
        Ok(())
    }

    fn look(&self, round: u64) -> Result<()> {
        for path in ["/", "/v1/dynamax", "/metrics", "/v1/models", "/health"] {
            self.client.get(path)?;
        }
        // A budget below what tokens cost makes them leave early; none lets them go all the way again.
        let gauges: Value = serde_json::from_str(&self.client.get("/v1/dynamax")?)?;
        let energy = gauges["recent"]["energy_mj_per_token"].as_f64();
        let budget = energy.filter(|_| round % 20 < 10).map(|energy| 0.9 * energy);
        self.client.put("/v1/dynamax/budget", &json!({ "energy_mj_per_token": budget }))?;
        std::thread::sleep(2 * PAUSE);
        Ok(())
    }
}
