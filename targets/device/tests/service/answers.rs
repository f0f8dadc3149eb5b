//! What clients ask and get.

use std::ops::ControlFlow;

use dynamax_engine::Sampling;
use dynamax_session::generator::{Ask, Eos, Token};
use dynamax_session::{Generator, Options, Session, Source, Text};
use serde_json::{Value, json};

use crate::device::{Board, demo};

/// What a generator says at the desk.
fn at_the_desk(prompt: &str, n: usize) -> String {
    let source = Source::open(&demo("mamba2.dmx")).unwrap();
    let session = Session::open(&source, &Options::default()).unwrap();
    let text = Text::of(&session.bundle).unwrap();
    let mut memory = session.memory();
    let ask =
        Ask { sampling: Sampling::default(), most_tokens: n, eos: Eos::Ends, alternatives: None };
    let prompt = text.encode(prompt).unwrap();
    let mut ids = prompt.clone();
    let mut listener = |token: &Token| {
        ids.push(token.id);
        ControlFlow::Continue(())
    };
    Generator::new(&session, &mut memory).answer(&prompt, &ask, &mut listener).unwrap();
    text.decode(&ids)[text.decode(&prompt).len()..].to_owned()
}

fn text_of(answer: &Value) -> &str {
    answer["choices"][0]["text"].as_str().unwrap()
}

#[test]
fn a_completion_is_what_the_desk_says() {
    let board = Board::new("\n[power]\nmeter = \"model\"\n");
    let service = board.start();
    let prompt = "It was a dark and stormy night";
    let body = json!({ "prompt": prompt, "max_tokens": 24, "temperature": 0 });
    let answer = service.ask("/v1/completions", &body);
    assert_eq!(text_of(&answer), at_the_desk(prompt, 24), "the same bits: {answer}");
    assert_eq!(answer["object"], "text_completion", "{answer}");
    assert_eq!(answer["usage"]["completion_tokens"], 24, "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    let extra = &answer["dynamax"];
    assert_eq!(extra["depth_mean"], 1.0, "every token went through all layers: {extra}");
    assert!(extra["ms_per_token"].as_f64().is_some_and(|ms| ms > 0.0), "measured: {extra}");
    assert!(extra["energy_mj_per_token"].as_f64().is_some_and(|mj| mj > 0.0), "told: {extra}");
    assert_eq!(extra["energy_source"], "model", "and never called measured: {extra}");
    let again = service.ask("/v1/completions", &body);
    assert_eq!(text_of(&again), text_of(&answer), "once more");
}

#[test]
fn a_budget_of_the_answer_or_of_the_device_is_kept() {
    let board = Board::new("\n[power]\nmeter = \"model\"\n");
    let service = board.start();
    let ask = |budget: Value| {
        let body = json!({ "prompt": "It was a dark and stormy night", "max_tokens": 200,
            "temperature": 0, "dynamax": { "ignore_eos": true, "energy_mj_per_token": budget } });
        let extra = service.ask("/v1/completions", &body)["dynamax"].take();
        (extra["energy_mj_per_token"].as_f64().unwrap(), extra["depth_mean"].as_f64().unwrap())
    };
    // The model counts time too: of three answers, the one that the machine disturbed least.
    let full: Vec<_> = (0..3).map(|_| ask(Value::Null)).collect();
    assert!(full.iter().all(|(_, depth)| *depth >= 1.0), "no budget, all layers: {full:?}");
    let budget = 0.8 * full.iter().map(|(energy, _)| *energy).fold(f64::INFINITY, f64::min);
    let (energy, depth) = ask(budget.into());
    assert!(depth < 1.0, "of the answer: {energy} of {budget} mJ, {depth}");
    let live = json!({ "energy_mj_per_token": budget, "latency_ms_per_token": null });
    let reply = service.send("PUT", "/v1/dynamax/budget", &live.to_string());
    assert!(reply.head.contains(" 200 "), "{}", reply.head);
    let (energy, depth) = ask(Value::Null);
    assert!(depth < 1.0, "of the device: {energy} of {budget} mJ, {depth}");
}

#[test]
fn a_budget_changes_no_word_where_exits_are_verified() {
    let text = |exit: &str, budget: Value| {
        let board = Board::new(&format!("[exit]\nmode = \"{exit}\"\n[power]\nmeter = \"model\"\n"));
        let service = board.start();
        let body = json!({ "prompt": "It was a dark and stormy night", "max_tokens": 60,
            "temperature": 0, "dynamax": { "energy_mj_per_token": budget } });
        service.ask("/v1/completions", &body)["choices"][0]["text"].take()
    };
    let full = text("off", Value::Null);
    assert_eq!(text("verified", 0.01.into()), full, "whatever the budget");
    assert_ne!(text("off", 0.01.into()), full, "elsewhere it gives way");
}

#[test]
fn a_stream_is_the_whole_in_pieces() {
    let board = Board::new("");
    let service = board.start();
    let mut body =
        json!({ "prompt": "The old man", "max_tokens": 30, "temperature": 0.9, "seed": 5 });
    let whole = service.ask("/v1/completions", &body);
    body["stream"] = true.into();
    body["stream_options"] = json!({ "include_usage": true });
    let reply = service.post("/v1/completions", &body);
    assert_eq!(reply.header("content-type"), Some("text/event-stream"), "{}", reply.head);
    let mut events = reply.events();
    assert_eq!(events.pop().as_deref(), Some("[DONE]"), "the mark behind the last");
    let chunks: Vec<Value> =
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let (usage, chunks) = chunks.split_last().unwrap();
    assert_eq!(usage["usage"], whole["usage"], "{usage}");
    let text: String = chunks.iter().map(text_of).collect();
    assert_eq!(text, text_of(&whole), "joined");
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length", "{last}");
    let told: usize =
        chunks.iter().filter_map(|chunk| chunk["dynamax"]["tokens"].as_array()).map(Vec::len).sum();
    assert_eq!(told, 30, "the depth of every token");
}

#[test]
fn a_seed_repeats_an_answer_and_none_does_not() {
    let board = Board::new("");
    let service = board.start();
    let ask = |seed: Value| {
        let body = json!({ "prompt": "Once", "max_tokens": 16, "temperature": 1.5, "seed": seed });
        text_of(&service.ask("/v1/completions", &body)).to_owned()
    };
    assert_eq!(ask(7.into()), ask(7.into()), "the same seed");
    assert_ne!(ask(7.into()), ask(8.into()), "another");
    assert_ne!(ask(Value::Null), ask(Value::Null), "none");
}

#[test]
fn a_stop_string_ends_an_answer_and_is_not_part_of_it() {
    let board = Board::new("");
    let service = board.start();
    let mut body = json!({ "prompt": "The captain", "max_tokens": 40, "temperature": 0 });
    let whole = text_of(&service.ask("/v1/completions", &body)).to_owned();
    let stop = whole.split(' ').nth(6).unwrap();
    body["stop"] = json!(["never said this way", stop]);
    let answer = service.ask("/v1/completions", &body);
    assert_eq!(text_of(&answer), &whole[..whole.find(stop).unwrap()], "up to {stop:?}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
}

#[test]
fn probabilities_come_with_their_alternatives() {
    let board = Board::new("");
    let service = board.start();
    let body = json!({ "prompt": "A", "max_tokens": 5, "temperature": 0, "logprobs": 3 });
    let logprobs = service.ask("/v1/completions", &body)["choices"][0]["logprobs"].clone();
    for field in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(logprobs[field].as_array().map(Vec::len), Some(5), "{field}: {logprobs}");
    }
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 5,
        "temperature": 0, "logprobs": true, "top_logprobs": 2 });
    let answer = service.ask("/v1/chat/completions", &body);
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 5, "{answer}");
    for token in content {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2, "{token}");
        assert_eq!(top[0]["logprob"], token["logprob"], "greedy takes the most probable: {token}");
    }
}

#[test]
fn a_conversation_is_answered_and_goes_on_where_it_was() {
    let board = Board::new("");
    let service = board.start();
    let mut messages = vec![json!({ "role": "system", "content": "Be brief." })];
    messages.push(json!({ "role": "user", "content": "Who is there?" }));
    let body = json!({ "messages": messages, "max_tokens": 12, "temperature": 0 });
    let answer = service.ask("/v1/chat/completions", &body);
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["role"], "assistant", "{answer}");
    assert!(message["content"].as_str().is_some_and(|text| !text.contains("User:")), "{answer}");
    assert_eq!(answer["object"], "chat.completion", "{answer}");

    // A client that sends back exactly what it got goes on from there.
    let prompt: Vec<u32> = (5..25).collect();
    let body = json!({ "prompt": prompt, "max_tokens": 1, "temperature": 0 });
    service.ask("/v1/completions", &body);
    let longer: Vec<u32> = (5..30).collect();
    let body = json!({ "prompt": longer, "max_tokens": 1, "temperature": 0 });
    let answer = service.ask("/v1/completions", &body);
    assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 20, "{answer}");
}

#[test]
fn refusals_have_openai_s_form() {
    let board = Board::new("");
    let service = board.start();
    let refused = |status: u16, kind: &str, method: &str, path: &str, body: &str| {
        let reply = service.send(method, path, body);
        assert_eq!(reply.status, status, "{method} {path} {body}: {}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["type"], kind, "{error}");
        assert!(error["message"].as_str().is_some_and(|words| words.len() > 20), "{error}");
        error["message"].as_str().unwrap().to_owned()
    };
    let invalid = "invalid_request_error";
    refused(404, invalid, "GET", "/v2/completions", "");
    refused(405, invalid, "GET", "/v1/completions", "");
    refused(404, invalid, "GET", "/v1/models/other", "");
    refused(400, invalid, "POST", "/v1/completions", "{");
    refused(400, invalid, "POST", "/v1/completions", r#"{"prompt": "x", "n": 3}"#);
    refused(400, invalid, "PUT", "/v1/dynamax/budget", r#"{"energy_mj_per_token": -1}"#);
    let long = json!({ "prompt": vec![1; 513] }).to_string();
    let words = refused(400, invalid, "POST", "/v1/completions", &long);
    assert!(words.contains("513") && words.contains("512"), "{words}");
    let unknown = json!({ "prompt": [999_999] }).to_string();
    let words = refused(400, invalid, "POST", "/v1/completions", &unknown);
    assert!(words.contains("999999"), "{words}");
    let empty = json!({ "messages": [] }).to_string();
    refused(400, invalid, "POST", "/v1/chat/completions", &empty);
    let form = "POST /v1/completions HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\
                Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}";
    let reply = crate::device::exchange(service.connect(), form.as_bytes());
    assert_eq!(reply.status, 415, "a form that any page could send: {}", reply.text());
}

#[test]
fn an_answer_that_nobody_limits_ends() {
    let board = Board::new("");
    board.configure_context(None);
    let service = board.start();
    assert_eq!(service.get("/v1/dynamax").json()["context"], Value::Null, "recurrent: no limit");
    let body = json!({ "messages": [{ "role": "user", "content": "Go on" }], "temperature": 0,
        "dynamax": { "ignore_eos": true } });
    let answer = service.ask("/v1/chat/completions", &body);
    let tokens = answer["usage"]["completion_tokens"].as_u64().unwrap();
    assert!(tokens <= 2048, "{tokens} tokens");
}

#[test]
fn what_is_loaded_and_how_it_goes_can_be_asked() {
    let board = Board::new("[budget]\nenergy_per_token = \"900 mJ\"\n");
    let service = board.start();
    assert_eq!(service.get("/health").json()["status"], "ok", "healthy");
    let models = service.get("/v1/models").json();
    let name = models["data"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(service.get(&format!("/v1/models/{name}")).json()["id"], name.as_str(), "{models}");
    let page = service.get("/").text();
    assert!(
        page.contains("<title>") && !page.contains("http://") && !page.contains("https://"),
        "self-contained"
    );
    assert_eq!(service.get("/v1/dynamax").json()["budget"]["energy_mj_per_token"], 900.0, "budget");
    let new = r#"{"energy_mj_per_token": 450.5}"#;
    let told = service.send("PUT", "/v1/dynamax/budget", new).json();
    assert_eq!(told["budget"]["energy_mj_per_token"], 450.5, "{told}");
    service.ask("/v1/completions", &json!({ "prompt": "x", "max_tokens": 7 }));
    assert!((service.metric("tokens_total") - 7.0).abs() < 0.5, "seven tokens");
    assert!((service.metric("budget_energy_mj_per_token") - 450.5).abs() < 1e-9, "the new one");
    assert!((service.metric("answers_total") - 1.0).abs() < 0.5, "one answer");
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let board = Board::new("queue = 1\n");
    let service = board.start();
    let long = json!({ "prompt": "Once", "max_tokens": 400, "dynamax": { "ignore_eos": true } });
    let long = crate::device::request("POST", "/v1/completions", &long.to_string());
    let mut waiting: Vec<_> = Vec::new();
    let mut refused = None;
    for _ in 0..8 {
        // One is answered, one waits, and those behind them find no room.
        for _ in 0..3 {
            use std::io::Write;
            let mut stream = service.connect();
            stream.write_all(long.as_bytes()).unwrap();
            waiting.push(stream);
        }
        let reply = service.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 }));
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("the queue fills up");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{}", refused.head);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error", "{}", refused.text());
    drop(waiting);
    service.wait_until("room in the queue", || {
        service.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 1 })).status == 200
    });
}
