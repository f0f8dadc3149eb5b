//! What a bundle says at the desk and on the board: the same tokens.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::output_of;
use crate::service::Client;

/// The prompt, as tokens, so that both ends begin with the same.
const PROMPT: [u32; 6] = [5, 6, 7, 8, 40, 100];
/// Tokens that are asked for.
const COUNT: usize = 48;

/// An answer that came in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) tokens: Vec<u32>,
    /// What measured its energy, or `model`.
    pub(super) energy_source: String,
    /// Time and energy of the tokens behind the first.
    pub(super) ms: f64,
    pub(super) energy_mj: f64,
}

impl Answer {
    /// Mean power while tokens were made.
    pub(super) fn watts(&self) -> f64 {
        self.energy_mj / self.ms
    }
}

/// What `dynamax run` says on this machine.
pub(super) fn at_the_desk(dynamax: &Path, bundle: &Path) -> Result<Vec<u32>> {
    let ids: Vec<String> = PROMPT.iter().map(ToString::to_string).collect();
    let mut run = Command::new(dynamax);
    run.arg("run").arg(bundle).args(["--tokens-in", &ids.join(",")]);
    run.args(["-n", &COUNT.to_string(), "--ignore-eos", "--json"]);
    let said: Value = serde_json::from_str(&output_of(&mut run)?).context("dynamax run --json")?;
    numbers(&said["tokens"]).context("no tokens in what dynamax run says")
}

/// What the service answers, as a stream.
pub(super) fn on_the_board(client: &Client) -> Result<Answer> {
    let body = json!({ "prompt": PROMPT, "max_tokens": COUNT, "temperature": 0, "stream": true,
        "dynamax": { "ignore_eos": true } });
    let mut answer = Answer::default();
    client.stream("/v1/completions", &body, |event| {
        let extra = &event["dynamax"];
        for token in extra["tokens"].as_array().into_iter().flatten() {
            if !answer.tokens.is_empty() {
                answer.ms += token["ms"].as_f64().unwrap_or(f64::NAN);
                answer.energy_mj += token["energy_mj"].as_f64().unwrap_or(f64::NAN);
            }
            answer.tokens.extend(token["id"].as_u64().and_then(|id| u32::try_from(id).ok()));
        }
        if let Some(source) = extra["energy_source"].as_str() {
            source.clone_into(&mut answer.energy_source);
        }
        true
    })?;
    Ok(answer)
}

/// Holds an answer against the desk's.
pub(super) fn compare(place: &str, desk: &[u32], answer: &Answer) -> Result<()> {
    ensure!(
        answer.tokens == desk,
        "{place} says {:?}, the desk {desk:?}: they must not differ",
        answer.tokens
    );
    println!(
        "{place}: {} tokens, the same as at the desk; {:.1} ms and {:.1} mJ each ({})",
        desk.len(),
        answer.ms / (desk.len() - 1) as f64,
        answer.energy_mj / (desk.len() - 1) as f64,
        answer.energy_source
    );
    Ok(())
}

fn numbers(list: &Value) -> Option<Vec<u32>> {
    list.as_array()?.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}
