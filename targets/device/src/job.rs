//! What passes between the connections and the thread that decodes.

use dynamax_config::{DeviceConfig, ExitMode};
use dynamax_engine::Sampling;
use dynamax_governor::{Microjoules, Microseconds};
use dynamax_session::Message;
use dynamax_session::generator::{End, Eos};
use tokio::sync::mpsc::UnboundedSender;

/// What to continue.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Prompt {
    /// Plain text.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
    /// A conversation.
    Messages(Vec<Message>),
}

/// A budget for one answer, in place of the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Budget {
    pub(crate) energy_mj_per_token: Option<f64>,
    pub(crate) latency_ms_per_token: Option<f64>,
}

impl Budget {
    /// What a configuration says.
    pub(crate) fn of(config: &DeviceConfig) -> Self {
        let milli = |micro: u64| micro as f64 / 1e3;
        Self {
            energy_mj_per_token: config.budget.energy_per_token.map(|energy| milli(energy.0)),
            latency_ms_per_token: config.budget.latency_per_token.map(|time| milli(time.0)),
        }
    }

    /// The device's configuration with this budget in the place of its own. Exits that are verified stay so: no budget is
    /// worth a word that full depth would not say.
    pub(crate) fn over(self, config: &DeviceConfig) -> DeviceConfig {
        let mut config = config.clone();
        let micro = |milli: f64| (milli * 1e3).round() as u64;
        if let Some(energy) = self.energy_mj_per_token {
            config.budget.energy_per_token = Some(Microjoules(micro(energy)));
        }
        if let Some(latency) = self.latency_ms_per_token {
            config.budget.latency_per_token = Some(Microseconds(micro(latency)));
        }
        if config.exit.mode != ExitMode::Verified {
            config.exit.mode = ExitMode::Budget;
        }
        config
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) prompt: Prompt,
    pub(crate) sampling: Sampling,
    /// `None`: not said.
    pub(crate) most_tokens: Option<usize>,
    pub(crate) eos: Eos,
    pub(crate) stops: Vec<String>,
    pub(crate) alternatives: Option<usize>,
    pub(crate) budget: Budget,
}

/// A request on its way to the thread that decodes.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) task: Task,
    /// Closed when the client has gone. Its length is bounded by the tokens asked for, so that a slow reader holds up
    /// nobody.
    pub(crate) reply: UnboundedSender<Event>,
}

/// What the thread says to the one who asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// Text, and the tokens that completed it.
    Text(Piece),
    /// The end.
    Done(Summary),
    /// The request cannot be answered.
    Refused(Refusal),
}

/// Why a request is not answered, or not to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Refusal {
    /// It asks for what cannot be.
    Request(String),
    /// The power meter is broken, and the configuration says to stop then.
    Meter,
}

/// Text with the tokens that completed it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Said>,
}

/// A token as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) id: u32,
    pub(crate) text: String,
    pub(crate) ms: f64,
    pub(crate) segment: u16,
    pub(crate) depth: f64,
    pub(crate) energy_mj: Option<f64>,
    pub(crate) logprob: Option<f64>,
    /// Text, log-probability.
    pub(crate) alternatives: Vec<(String, f64)>,
}

/// How an answer went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) end: End,
    /// A stop string was met.
    pub(crate) stopped: bool,
    pub(crate) prompt_tokens: usize,
    pub(crate) reused_tokens: usize,
    pub(crate) tokens: usize,
    pub(crate) first_token_ms: f64,
    pub(crate) ms_per_token: Option<f64>,
    pub(crate) depth_mean: Option<f64>,
    pub(crate) energy_mj_per_token: Option<f64>,
    /// The sensor, or `model` where energy is an estimate.
    pub(crate) energy_source: &'static str,
    pub(crate) agreement: Option<f64>,
}
