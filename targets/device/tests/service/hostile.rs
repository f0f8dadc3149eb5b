//! Clients that do not behave: nobody else notices.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::device::{Board, Service, exchange, request};

/// A client that behaves is served, and soon.
fn is_served(service: &Service<'_>) {
    let start = Instant::now();
    let answer = service.ask("/v1/completions", &json!({ "prompt": "x", "max_tokens": 2 }));
    assert_eq!(answer["usage"]["completion_tokens"], 2, "{answer}");
    assert!(start.elapsed() < Duration::from_secs(10), "served after {:?}", start.elapsed());
}

#[test]
fn what_is_no_request_harms_nobody() {
    let board = Board::new("");
    let service = board.start();
    let deep = "[".repeat(100_000);
    let bodies = [
        "",
        "{",
        "null",
        "[]",
        "\u{0}",
        "{\"prompt\":",
        "{\"prompt\": {}}",
        "{\"messages\": 5}",
        "{\"prompt\": \"x\", \"max_tokens\": 1e99}",
        "{\"prompt\": [-1]}",
        "{\"prompt\": [4294967296]}",
        "{\"prompt\": \"x\", \"temperature\": 1e400}",
        "{\"prompt\": \"\\ud800\"}",
        "{\"prompt\": \"x\", \"stop\": 5}",
        "{\"prompt\": \"x\", \"stream\": \"yes\"}",
        deep.as_str(),
    ];
    for body in bodies {
        for path in ["/v1/completions", "/v1/chat/completions", "/v1/dynamax/budget"] {
            let method = if path.ends_with("budget") { "PUT" } else { "POST" };
            let reply = service.send(method, path, body);
            let shown = &body[..body.len().min(40)];
            assert_eq!(reply.status, 400, "{path} {shown:?}: {}", reply.text());
            assert!(reply.json()["error"]["message"].is_string(), "{path} {shown:?}");
        }
    }
    let not_http: [&[u8]; 5] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\
          Content-Type: application/json\r\n\r\nzz\r\n",
    ];
    for bytes in not_http {
        let mut stream = service.connect();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let head = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(40_000));
    let reply = exchange(service.connect(), head.as_bytes());
    assert_eq!(reply.status, 431, "a head without end");
    is_served(&service);
}

#[test]
fn a_body_without_end_is_not_read_to_its_end() {
    let board = Board::new("");
    let service = board.start();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: close\r\n";
    let said = format!("{head}Content-Length: 99999999999\r\n\r\n");
    let reply = exchange(service.connect(), said.as_bytes());
    assert_eq!(reply.status, 413, "its length is enough: {}", reply.text());
    // Chunks that never say how many there will be.
    let mut stream = service.connect();
    stream.write_all(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    let mut sent = 0;
    while sent < 64 && stream.write_all(chunk.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 16, "{sent} MiB were taken");
    is_served(&service);
}

#[test]
fn slow_and_silent_clients_hold_up_nobody() {
    let board = Board::new("");
    let service = board.start();
    let body = json!({ "prompt": "x", "max_tokens": 4 }).to_string();
    let whole = request("POST", "/v1/completions", &body);
    let mut silent: Vec<_> = (0..60).map(|_| service.connect()).collect();
    for (index, stream) in silent.iter_mut().enumerate() {
        // Each stops somewhere else: in the head, in the body, or before anything.
        stream.write_all(&whole.as_bytes()[..index * whole.len() / 60]).unwrap();
    }
    for _ in 0..5 {
        is_served(&service);
    }
    service.wait_until("the connections are counted", || service.metric("connections") > 50.0);
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let board = Board::new("");
    let service = board.start();
    // One that is being answered keeps its place, whoever comes.
    let body = json!({ "prompt": "Once", "max_tokens": 20_000, "temperature": 0, "stream": true,
        "dynamax": { "ignore_eos": true } });
    let mut answered = service.connect();
    answered.write_all(request("POST", "/v1/completions", &body.to_string()).as_bytes()).unwrap();
    answered.read_exact(&mut [0; 300]).unwrap();
    let crowd: Vec<_> = (0..600).map(|_| service.connect()).collect();
    assert_eq!(service.get("/health").status, 200, "beside them");
    let most = service.metric("connections");
    assert!(most <= 128.0, "{most} connections at once");
    answered.read_exact(&mut [0; 3000]).expect("still answered");
    drop(answered);
    is_served(&service);
    drop(crowd);
    service.wait_until("they are forgotten", || service.metric("connections") < 5.0);
}

#[test]
fn an_answer_nobody_hears_is_not_finished() {
    let board = Board::new("");
    board.configure_context(None);
    let service = board.start();
    for streams in [true, false] {
        let before = service.metric("answers_cancelled_total");
        let body = json!({ "prompt": "Once", "max_tokens": 200_000, "temperature": 0, "stream": streams,
            "dynamax": { "ignore_eos": true } });
        let mut stream = service.connect();
        stream.write_all(request("POST", "/v1/completions", &body.to_string()).as_bytes()).unwrap();
        if streams {
            let mut some = [0; 300];
            stream.read_exact(&mut some).unwrap();
        } else {
            service.wait_until("it has begun", || service.metric("queue_waiting") < 0.5);
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(stream);
        service.wait_until("it is given up", || {
            service.metric("answers_cancelled_total") > before + 0.5
        });
        is_served(&service);
    }
    let tokens = service.metric("tokens_total");
    assert!(tokens < 300_000.0, "{tokens} tokens were made, 400,000 were asked for");
}

#[test]
fn many_at_once_all_get_their_answer() {
    let board = Board::new("queue = 64\n");
    let service = board.start();
    let body = json!({ "prompt": "The", "max_tokens": 8, "temperature": 0 });
    let first = service.ask("/v1/completions", &body)["choices"].clone();
    std::thread::scope(|scope| {
        let asks: Vec<_> = (0..40)
            .map(|_| scope.spawn(|| service.ask("/v1/completions", &body)["choices"].clone()))
            .collect();
        for ask in asks {
            assert_eq!(ask.join().unwrap(), first, "each the same");
        }
    });
}

#[test]
fn memory_stays_flat() {
    let board = Board::new("");
    let service = board.start();
    let round = || {
        for seed in 0..20 {
            let body = json!({ "prompt": "The sea", "max_tokens": 12, "seed": seed, "stream": seed % 2 == 0,
                "logprobs": 5 });
            assert_eq!(service.post("/v1/completions", &body).status, 200, "answered");
            service.send("POST", "/v1/completions", "{");
            drop(service.connect());
        }
        service.metric("resident_bytes")
    };
    round();
    let before = round();
    (0..6).for_each(|_| {
        round();
    });
    let after = round();
    assert!(after < before + 2e6, "from {before} to {after} bytes in 280 requests");
}

#[test]
fn prompts_as_long_as_can_be_leave_no_memory_behind() {
    let board = Board::new("");
    let service = board.start();
    is_served(&service);
    let before = service.metric("resident_bytes");
    let words = json!({ "prompt": "word ".repeat(200_000) });
    let ids = json!({ "prompt": vec![1; 500_000] });
    let messages = json!({ "messages": vec![json!({ "role": "user", "content": "" }); 20_000] });
    for _ in 0..2 {
        for (path, body) in [
            ("/v1/completions", &words),
            ("/v1/completions", &ids),
            ("/v1/chat/completions", &messages),
        ] {
            let reply = service.post(path, body);
            assert_eq!(reply.status, 400, "longer than the context: {}", reply.text());
        }
    }
    service.wait_until("their memory is given back", || {
        service.metric("resident_bytes") < before + 2e6
    });
}
