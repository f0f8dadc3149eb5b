//! What clients get.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use dynamax_session::generator::End;
use serde::Serialize;
use serde_json::{Value, json};

use super::request::Understood;
use crate::job::{Piece, Said, Summary};

/// A body of JSON.
pub(crate) fn json(value: &impl Serialize) -> Response {
    // Values are made here, of maps with text for keys: they cannot fail.
    let text = serde_json::to_string(value).unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

/// What all parts of one answer share.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) is_chat: bool,
    pub(crate) has_logprobs: bool,
    pub(crate) alternatives: usize,
}

/// What a device adds to an answer. What is not measured is null.
#[derive(Serialize)]
struct Extra {
    depth_mean: Option<f64>,
    agreement: Option<f64>,
    energy_mj_per_token: Option<f64>,
    energy_source: &'static str,
    ms_per_token: Option<f64>,
    first_token_ms: f64,
    prompt_tokens_reused: usize,
}

impl Frame {
    pub(crate) fn new(id: String, created: u64, model: String, asked: &Understood) -> Self {
        let alternatives = asked.task.alternatives;
        Self {
            id,
            created,
            model,
            is_chat: asked.is_chat,
            has_logprobs: alternatives.is_some(),
            alternatives: alternatives.unwrap_or(0),
        }
    }

    fn wrap(&self, object: &str, choice: &Value, more: Value) -> Value {
        let mut body = json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        });
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        body
    }

    /// A whole answer.
    pub(crate) fn whole(&self, pieces: &[Piece], summary: &Summary) -> Value {
        let text: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
        let tokens: Vec<&Said> = pieces.iter().flat_map(|piece| &piece.tokens).collect();
        let mut choice = json!({
            "index": 0,
            "logprobs": self.logprobs(&tokens, 0),
            "finish_reason": finish_reason(summary),
        });
        let object = if self.is_chat {
            choice["message"] = json!({ "role": "assistant", "content": text });
            "chat.completion"
        } else {
            choice["text"] = text.into();
            "text_completion"
        };
        self.wrap(object, &choice, json!({ "usage": usage(summary), "dynamax": extra(summary) }))
    }

    /// A piece of a stream, behind `offset` characters; the first of a chat says who speaks.
    pub(crate) fn piece(&self, piece: &Piece, is_first: bool, offset: usize) -> Value {
        let tokens: Vec<&Said> = piece.tokens.iter().collect();
        let mut choice = self.choice(&piece.text, is_first);
        choice["logprobs"] = self.logprobs(&tokens, offset);
        let told = |said: &&Said| json!({ "id": said.id, "depth": said.depth, "segment": said.segment, "ms": said.ms, "energy_mj": said.energy_mj });
        let told: Vec<Value> = tokens.iter().map(told).collect();
        self.wrap(self.chunk(), &choice, json!({ "dynamax": { "tokens": told } }))
    }

    /// The last piece of a stream.
    pub(crate) fn end(&self, summary: &Summary, is_first: bool) -> Value {
        let mut choice = self.choice("", is_first);
        if self.is_chat && !is_first {
            choice["delta"] = json!({});
        }
        choice["finish_reason"] = finish_reason(summary).into();
        self.wrap(self.chunk(), &choice, json!({ "dynamax": extra(summary) }))
    }

    /// What follows the last piece if the usage is asked for.
    pub(crate) fn usage(&self, summary: &Summary) -> Value {
        let mut body = self.wrap(self.chunk(), &Value::Null, json!({ "usage": usage(summary) }));
        body["choices"] = json!([]);
        body
    }

    fn chunk(&self) -> &'static str {
        if self.is_chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn choice(&self, text: &str, is_first: bool) -> Value {
        let mut choice = json!({ "index": 0, "logprobs": null, "finish_reason": null });
        if self.is_chat {
            choice["delta"] = json!({ "content": text });
            if is_first {
                choice["delta"]["role"] = "assistant".into();
            }
        } else {
            choice["text"] = text.into();
        }
        choice
    }

    /// Log-probabilities in the form of the kind of answer; null if they were not asked for.
    fn logprobs(&self, tokens: &[&Said], offset: usize) -> Value {
        if !self.has_logprobs {
            return Value::Null;
        }
        if self.is_chat {
            let entry = |text: &str, logprob: Option<f64>| json!({ "token": text, "logprob": logprob, "bytes": bytes(text) });
            let content = tokens.iter().map(|said| {
                let top = said.alternatives.iter().map(|(text, p)| entry(text, Some(*p)));
                let mut entry = entry(&said.text, said.logprob);
                entry["top_logprobs"] = top.collect();
                entry
            });
            return json!({ "content": content.collect::<Vec<_>>() });
        }
        let mut at = offset;
        let offsets = tokens.iter().map(|said| {
            let start = at;
            at += said.text.chars().count();
            start
        });
        let offsets: Vec<usize> = offsets.collect();
        let top = |said: &&Said| -> Value {
            said.alternatives.iter().map(|(text, p)| (text.clone(), Value::from(*p))).collect()
        };
        let has_top = self.alternatives > 0;
        json!({
            "tokens": tokens.iter().map(|said| said.text.as_str()).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|said| said.logprob).collect::<Vec<_>>(),
            "top_logprobs": has_top.then(|| tokens.iter().map(top).collect::<Vec<_>>()),
            "text_offset": offsets,
        })
    }
}

/// The bytes of a token; none of one that is a part of a character, whose text does not tell them.
fn bytes(text: &str) -> Option<&[u8]> {
    (!text.contains(char::REPLACEMENT_CHARACTER)).then_some(text.as_bytes())
}

fn finish_reason(summary: &Summary) -> &'static str {
    if summary.stopped || summary.end == End::Eos { "stop" } else { "length" }
}

fn usage(summary: &Summary) -> Value {
    let &Summary { prompt_tokens, tokens, reused_tokens, .. } = summary;
    json!({
        "prompt_tokens": prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": prompt_tokens + tokens,
        "prompt_tokens_details": { "cached_tokens": reused_tokens },
    })
}

fn extra(summary: &Summary) -> Extra {
    Extra {
        depth_mean: summary.depth_mean,
        agreement: summary.agreement,
        energy_mj_per_token: summary.energy_mj_per_token,
        energy_source: summary.energy_source,
        ms_per_token: summary.ms_per_token,
        first_token_ms: summary.first_token_ms,
        prompt_tokens_reused: summary.reused_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        Said {
            id: 0,
            text: text.into(),
            ms: 1.0,
            segment: 0,
            depth: 1.0,
            energy_mj: None,
            logprob: Some(-1.0),
            alternatives: Vec::new(),
        }
    }

    fn frame(is_chat: bool) -> Frame {
        Frame {
            id: "x".into(),
            created: 0,
            model: "m".into(),
            is_chat,
            has_logprobs: true,
            alternatives: 0,
        }
    }

    #[test]
    fn offsets_count_characters_and_a_part_of_one_has_no_bytes() {
        let tokens = [&said("né"), &said("e"), &said("\u{fffd}")];
        let offsets = frame(false).logprobs(&tokens, 3)["text_offset"].clone();
        assert_eq!(offsets, json!([3, 5, 6]), "of characters");
        let content = frame(true).logprobs(&tokens, 0)["content"].clone();
        assert_eq!(content[0]["bytes"], json!([110, 195, 169]), "{content}");
        assert!(content[2]["bytes"].is_null(), "unknown: {content}");
    }
}
