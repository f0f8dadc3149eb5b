//! What clients send, and what it means. Fields of OpenAI's that would change the answer and are not supported are
//! refused; those that would not, and unknown ones, are left out.

use std::hash::{BuildHasher, RandomState};

use dynamax_engine::Sampling;
use dynamax_session::generator::Eos;
use dynamax_session::{Message, Role};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::ApiError;
use crate::job::{Budget, Prompt, Task};

/// Alternatives that may be asked for with each token.
const MOST_ALTERNATIVES: usize = 20;
/// Stop strings that may be given.
const MOST_STOPS: usize = 16;
/// Most that the governor counts with: a kilojoule, and an hour.
const MOST_MJ: f64 = 1e6;
const MOST_MS: f64 = 3.6e6;
/// Tokens of a completion without `max_tokens`, as OpenAI has it.
const COMPLETION_TOKENS: usize = 16;

/// A request that is understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Understood {
    pub(crate) task: Task,
    pub(crate) model: String,
    pub(crate) streams: bool,
    /// A stream ends with a chunk that has the usage.
    pub(crate) includes_usage: bool,
    pub(crate) is_chat: bool,
}

/// Fields of both kinds of requests.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Common {
    model: Option<String>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<u32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    n: Option<u32>,
    best_of: Option<u32>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    stop: Option<OneOrMany>,
    seed: Option<i64>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Option<Value>,
    /// An [`Extra`]; a list would be taken for its fields in their order.
    dynamax: Option<Map<String, Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What a device adds.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Extra {
    energy_mj_per_token: Option<f64>,
    latency_ms_per_token: Option<f64>,
    ignore_eos: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Completion {
    prompt: Text,
    #[serde(default)]
    logprobs: Option<usize>,
    #[serde(default)]
    echo: Option<bool>,
    #[serde(default)]
    suffix: Option<String>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string, or a list of token ids, or one of either in a list")]
enum Text {
    One(String),
    Ids(Vec<u32>),
    Many(Vec<String>),
    ManyIds(Vec<Vec<u32>>),
}

#[derive(Debug, Deserialize)]
struct ChatCompletion {
    messages: Vec<Turn>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(default)]
    top_logprobs: Option<usize>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
    #[serde(default)]
    response_format: Option<ResponseFormat>,
    #[serde(flatten)]
    common: Common,
}

#[derive(Debug, Deserialize)]
struct ResponseFormat {
    r#type: String,
}

#[derive(Debug, Deserialize)]
struct Turn {
    role: Role,
    #[serde(default)]
    content: Option<Content>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a string or a list of parts")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    r#type: String,
    #[serde(default)]
    text: Option<String>,
}

/// Reads a body.
fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, ApiError> {
    // Lists would be taken for the fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::invalid(
            "the request cannot be read: it is no JSON object; send one",
        ));
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(format!("the request cannot be read: {error}")))
}

/// Understands a body of `/v1/completions`.
pub(crate) fn completion(body: &[u8]) -> Result<Understood, ApiError> {
    let request: Completion = parse(body)?;
    let prompt = match request.prompt {
        Text::One(text) => Prompt::Text(text),
        Text::Ids(ids) => Prompt::Tokens(ids),
        Text::Many(mut texts) if texts.len() == 1 => Prompt::Text(texts.remove(0)),
        Text::ManyIds(mut lists) if lists.len() == 1 => Prompt::Tokens(lists.remove(0)),
        _ => return Err(ApiError::field("prompt", "one prompt is expected; send one a request")),
    };
    if request.echo == Some(true) {
        return Err(ApiError::field("echo", "echo is not supported; leave it out"));
    }
    if request.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::field("suffix", "suffix is not supported; leave it out"));
    }
    let mut understood = common(request.common, prompt, request.logprobs)?;
    understood.task.most_tokens.get_or_insert(COMPLETION_TOKENS);
    Ok(understood)
}

/// Understands a body of `/v1/chat/completions`.
pub(crate) fn chat(body: &[u8]) -> Result<Understood, ApiError> {
    let request: ChatCompletion = parse(body)?;
    if request.tools.is_some_and(|tools| !tools.is_empty()) {
        return Err(ApiError::field("tools", "tools are not supported; leave them out"));
    }
    if request.response_format.is_some_and(|format| format.r#type != "text") {
        let message = "only text is supported; leave response_format out";
        return Err(ApiError::field("response_format", message));
    }
    let messages = request.messages.into_iter().map(message).collect::<Result<_, _>>()?;
    let alternatives = match (request.logprobs, request.top_logprobs) {
        (Some(true), count) => Some(count.unwrap_or(0)),
        (_, None | Some(0)) => None,
        _ => {
            let message = "top_logprobs needs logprobs: true";
            return Err(ApiError::field("top_logprobs", message));
        }
    };
    let understood = common(request.common, Prompt::Messages(messages), alternatives)?;
    Ok(Understood { is_chat: true, ..understood })
}

fn message(turn: Turn) -> Result<Message, ApiError> {
    let content = match turn.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut all = String::new();
            for Part { r#type, text } in parts {
                let text = text.filter(|_| r#type == "text").ok_or_else(|| {
                    let problem = format!("a part of type \"{}\" is not text; send text", r#type);
                    ApiError::field("messages", problem)
                })?;
                all.push_str(&text);
            }
            all
        }
    };
    Ok(Message { role: turn.role, content })
}

/// What both kinds have in common.
fn common(
    common: Common,
    prompt: Prompt,
    alternatives: Option<usize>,
) -> Result<Understood, ApiError> {
    for (field, answers) in [("n", common.n), ("best_of", common.best_of)] {
        if answers.unwrap_or(1) != 1 {
            let message = format!("one answer a request is made; leave {field} out");
            return Err(ApiError::field(field, message));
        }
    }
    let penalties = [
        ("presence_penalty", common.presence_penalty),
        ("frequency_penalty", common.frequency_penalty),
    ];
    for (field, penalty) in penalties {
        if penalty.unwrap_or(0.0) != 0.0 {
            let message = "penalties by count are not supported; use repetition_penalty";
            return Err(ApiError::field(field, message));
        }
    }
    let has_bias = |bias: &Value| bias.as_object().is_none_or(|bias| !bias.is_empty());
    if common.logit_bias.as_ref().is_some_and(|bias| !bias.is_null() && has_bias(bias)) {
        return Err(ApiError::field("logit_bias", "logit_bias is not supported; leave it out"));
    }
    if alternatives.is_some_and(|count| count > MOST_ALTERNATIVES) {
        let message = format!("at most {MOST_ALTERNATIVES} alternatives are reported");
        return Err(ApiError::field("logprobs", message));
    }
    let sampling = sampling(&common)?;
    let stops = match common.stop {
        None => Vec::new(),
        Some(OneOrMany::One(stop)) => vec![stop],
        Some(OneOrMany::Many(stops)) => stops,
    };
    if stops.len() > MOST_STOPS {
        let message = format!("{} stop strings were given, at most {MOST_STOPS} are", stops.len());
        return Err(ApiError::field("stop", message));
    }
    let extra = extra(common.dynamax.unwrap_or_default())?;
    let budget = budget(extra.energy_mj_per_token, extra.latency_ms_per_token)?;
    let eos = if extra.ignore_eos == Some(true) { Eos::Ignored } else { Eos::Ends };
    let most_tokens = common.max_completion_tokens.or(common.max_tokens).map(|n| n as usize);
    Ok(Understood {
        task: Task { prompt, sampling, most_tokens, eos, stops, alternatives, budget },
        model: common.model.unwrap_or_default(),
        streams: common.stream == Some(true),
        includes_usage: common.stream_options.and_then(|it| it.include_usage) == Some(true),
        is_chat: false,
    })
}

fn sampling(common: &Common) -> Result<Sampling, ApiError> {
    let sampling = Sampling {
        temperature: common.temperature.unwrap_or(1.0),
        top_k: common.top_k.unwrap_or(0),
        top_p: common.top_p.unwrap_or(1.0),
        min_p: common.min_p.unwrap_or(0.0),
        repetition_penalty: common.repetition_penalty.unwrap_or(1.0),
        // Two hashes of nothing differ: the standard library keys them at random.
        seed: common.seed.map_or_else(|| RandomState::new().hash_one(0), i64::cast_unsigned),
    };
    let named = |(field, range): (&'static str, &str)| {
        ApiError::field(field, format!("{field} is out of range: send {range}"))
    };
    sampling.validate().map_err(named)?;
    Ok(sampling)
}

fn extra(fields: Map<String, Value>) -> Result<Extra, ApiError> {
    let read = Extra::deserialize(Value::Object(fields));
    read.map_err(|error| ApiError::field("dynamax", format!("dynamax cannot be read: {error}")))
}

/// A budget in range.
pub(crate) fn budget(energy: Option<f64>, latency: Option<f64>) -> Result<Budget, ApiError> {
    let within = |most| move |value: f64| (0.001..=most).contains(&value);
    if energy.is_none_or(within(MOST_MJ)) && latency.is_none_or(within(MOST_MS)) {
        return Ok(Budget { energy_mj_per_token: energy, latency_ms_per_token: latency });
    }
    let message = "a budget is more than 0, at most a kilojoule or an hour; leave it out for none";
    Err(ApiError::field("dynamax", message))
}

/// Understands a body of `/v1/dynamax/budget`.
pub(crate) fn new_budget(body: &[u8]) -> Result<Budget, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        #[serde(default)]
        energy_mj_per_token: Option<f64>,
        #[serde(default)]
        latency_ms_per_token: Option<f64>,
    }
    let body: Body = parse(body)?;
    budget(body.energy_mj_per_token, body.latency_ms_per_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_of(result: Result<Understood, ApiError>) -> String {
        format!("{:?}", result.unwrap_err())
    }

    #[test]
    fn a_chat_is_understood() {
        let body = br#"{"model": "m", "messages": [{"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "!"}]}],
            "max_completion_tokens": 5, "max_tokens": 9, "temperature": 0, "seed": -1, "stop": "x", "unknown": 1,
            "logprobs": true, "stream": true, "stream_options": {"include_usage": true}}"#;
        let understood = chat(body).unwrap();
        let messages = vec![Message::system("Be brief."), Message::user("Hi!")];
        assert_eq!(understood.task.prompt, Prompt::Messages(messages), "parts are joined");
        assert_eq!(understood.task.most_tokens, Some(5), "the newer name wins");
        assert_eq!(understood.task.sampling.seed, u64::MAX, "any seed is one");
        assert_eq!(understood.task.alternatives, Some(0), "probabilities without alternatives");
        assert_eq!(understood.task.stops, ["x"], "one stop string");
        assert!(understood.streams && understood.includes_usage && understood.is_chat, "flags");
    }

    #[test]
    fn a_completion_has_openai_s_defaults() {
        let understood = completion(br#"{"prompt": ["Once"]}"#).unwrap();
        assert_eq!(understood.task.prompt, Prompt::Text("Once".into()), "a list of one");
        assert_eq!(understood.task.most_tokens, Some(16), "sixteen tokens");
        assert!((understood.task.sampling.temperature - 1.0).abs() < 1e-9, "sampled");
        assert_eq!(
            completion(br#"{"prompt": [1, 2]}"#).unwrap().task.prompt,
            Prompt::Tokens(vec![1, 2])
        );
    }

    #[test]
    fn two_requests_without_a_seed_differ() {
        let seed = || completion(br#"{"prompt": "x"}"#).unwrap().task.sampling.seed;
        assert_ne!(seed(), seed(), "drawn anew");
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        for (body, words) in [
            (r#"{"prompt": "x", "n": 2}"#, "one answer"),
            (r#"{"prompt": ["x", "y"]}"#, "one prompt"),
            (r#"{"prompt": "x", "echo": true}"#, "echo"),
            (r#"{"prompt": "x", "logit_bias": {"5": 1}}"#, "logit_bias"),
            (r#"{"prompt": "x", "frequency_penalty": 0.5}"#, "repetition_penalty"),
            (r#"{"prompt": "x", "temperature": -1}"#, "temperature"),
            (r#"{"prompt": "x", "top_p": 0}"#, "top_p is out of range"),
            (r#"{"prompt": "x", "logprobs": 21}"#, "at most 20"),
            (r#"{"prompt": "x", "dynamax": {"energy_mj_per_token": 0}}"#, "more than 0"),
            (r#"{"prompt": "x", "dynamax": {"energy_mj_per_token": 1e300}}"#, "more than 0"),
            (r#"{"prompt": "x", "dynamax": {"energy": 1}}"#, "unknown field"),
            (r#"{"prompt": "x", "dynamax": [1, 2]}"#, "expected a map"),
            (r#"{"prompt": "x", "max_tokens": -1}"#, "cannot be read"),
            (r#"{"prompt": "x", "best_of": 2}"#, "leave best_of out"),
            (r#"{"prompt": "x", "presence_penalty": 0.5}"#, "repetition_penalty"),
            (r#"{"prompt": {"x": 1}}"#, "a string, or a list of token ids"),
            (r#"{"prompt": "x", "stop": 5}"#, "a string or a list of strings"),
            ("{", "cannot be read"),
            ("[]", "cannot be read"),
        ] {
            let message = message_of(completion(body.as_bytes()));
            assert!(message.contains(words), "{body}: {message}");
        }
        for (body, words) in [
            (r#"{"messages": [{"role": "tool", "content": "x"}]}"#, "unknown variant"),
            (r#"{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}"#, "not text"),
            (r#"{"messages": [], "tools": [{}]}"#, "tools"),
            (r#"{"messages": [], "response_format": {"type": "json_object"}}"#, "only text"),
            (r#"{"messages": [], "top_logprobs": 3}"#, "needs logprobs"),
        ] {
            let message = message_of(chat(body.as_bytes()));
            assert!(message.contains(words), "{body}: {message}");
        }
    }
}
