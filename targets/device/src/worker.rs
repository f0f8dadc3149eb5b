//! The one thread that owns the decoder. Connections talk to it through a bounded queue.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use dynamax_config::DeviceConfig;
use dynamax_session::depth::{self, Depth};
use dynamax_session::generator::{Ask, End, Eos, Listener, Outcome, Token};
use dynamax_session::machine::Machine;
use dynamax_session::traffic::Ladder;
use dynamax_session::{Chat, Generator, Metering, Session, Stops, Surroundings, Text, TextStream};
use tokio::sync::mpsc::{Receiver, UnboundedSender};

use crate::backend;
use crate::heap;
use crate::job::{Budget, Event, Job, Piece, Prompt, Refusal, Said, Summary, Task};
use crate::live::{Live, Loaded};
use crate::loading::{self, Ready, Settled};

/// Tokens of an answer that nobody limits: recurrent models have no context that would.
const UNASKED_TOKENS: usize = 2048;

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    /// Answer.
    Job(Box<Job>),
    /// Look at configuration and slots anew.
    Reload(Box<Settled>),
    /// Stop.
    End,
}

/// Loads the bundle, answers what comes, and loads anew when it is told to, until it is told to end.
pub(crate) fn run(mut settled: Settled, mut queue: Receiver<Work>, live: &Arc<Live>) -> Result<()> {
    let mut ready = loading::start(&settled)?;
    while let Some((next, with)) = serve(&settled, &ready, &mut queue, live)? {
        (ready, settled) = (next, with);
    }
    Ok(())
}

/// Serves one bundle. Returns the next one, or nothing when it is told to end.
fn serve(
    settled: &Settled,
    ready: &Ready,
    queue: &mut Receiver<Work>,
    live: &Arc<Live>,
) -> Result<Option<(Ready, Settled)>> {
    let mut session = Session::open(&ready.source, &settled.options())?;
    backend::put(&mut session, &ready.source, &settled.config.device, settled.memory_bytes)?;
    let text = Text::of(&session.bundle)?.without_memory();
    let chat = Chat::of(&session.bundle, &text)?;
    let mut memory = session.memory();
    let mut generator = Generator::new(&session, &mut memory);
    prove(&mut generator).context("the bundle makes no token")?;
    let program = *session.model().program();
    let profile = ready.profile(settled, session.backend()).unwrap_or_else(|error| {
        eprintln!("dynamaxd: costs are the board's, not a profile's: {error:#}");
        None
    });
    let machine =
        Machine { threads: session.threads(), root: &settled.root, profile: profile.as_ref() };
    let depth =
        |config: &DeviceConfig| depth::of_device(config, &session.bundle, &program, &machine);
    generator.set_depth(depth(&settled.config)?)?;
    let ladder = Ladder::of(&program);
    let metering = Metering::open(&settled.config, &settled.root, ladder, session.threads())?;
    let energy_source = metering.source().label();
    generator.set_metering(metering);
    let board = settled.config.board().map_err(anyhow::Error::msg)?;
    let has_battery_budget = settled.config.power.below_battery.is_some();
    generator.set_surroundings(Surroundings::new(&settled.root, board, has_battery_budget));
    live.power_mode_is(generator.power_mode());
    if ready.on_trial {
        settled.slots()?.confirm()?;
    }
    heap::reserve();
    let memory_locked = lock_memory(&session);
    heap::fence();
    heap::settle();
    live.totals().loaded =
        Loaded { energy_source, memory_locked, ..loaded(ready, &session, &chat) };
    live.ready.store(true, Ordering::Release);
    report(ready, &session, memory_locked, machine.profile.is_some());
    let config = &settled.config;
    let budget = Budget::of(config);
    let mut desk =
        Desk { generator, text: &text, chat: &chat, live, config, budget, depth: &depth };
    loop {
        live.idle();
        match queue.blocking_recv() {
            None | Some(Work::End) => return Ok(None),
            Some(Work::Job(job)) => {
                live.waiting.fetch_sub(1, Ordering::Relaxed);
                live.progress();
                desk.answer(*job);
            }
            Some(Work::Reload(settled)) => match loading::start(&settled) {
                Ok(next) => return Ok(Some((next, *settled))),
                Err(error) => eprintln!("dynamaxd: not reloaded: {error:#}"),
            },
        }
    }
}

/// Makes a token, so that a bundle that cannot is not confirmed; also touches every weight.
fn prove(generator: &mut Generator<'_>) -> Result<()> {
    let ask = Ask {
        sampling: dynamax_engine::Sampling::default(),
        most_tokens: 1,
        eos: Eos::Ignored,
        alternatives: Some(1),
    };
    let mut finite = true;
    let mut listener = |token: &Token| {
        finite = token.logprob.is_some_and(f64::is_finite);
        ControlFlow::Continue(())
    };
    generator.answer(&[0], &ask, &mut listener)?;
    generator.forget();
    ensure!(finite, "its logits are not finite numbers; build it again");
    Ok(())
}

/// Keeps weights and work memory from being swapped out, where that is allowed. A GPU has its own: to lock what is mapped would
/// hold weights twice.
fn lock_memory(session: &Session<'_>) -> bool {
    session.backend() != "wgpu" && rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT).is_ok()
}

fn loaded(ready: &Ready, session: &Session<'_>, chat: &Chat) -> Loaded {
    let meta = session.bundle.meta();
    Loaded {
        name: meta.name.to_owned(),
        architecture: meta.architecture.to_owned(),
        hash: session.bundle.hash().to_string(),
        slot: ready.slot.to_string(),
        counter: ready.signature.map(|signature| signature.counter),
        context: session.model().settings().context,
        planned_bytes: session.planned_bytes(),
        isa: session.isa().name(),
        threads: session.threads(),
        segments: session.model().program().segments.len(),
        has_chat_template: chat.has_template(),
        since_epoch_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()),
        ..Loaded::default()
    }
}

fn report(ready: &Ready, session: &Session<'_>, memory_locked: bool, is_profiled: bool) {
    let meta = session.bundle.meta();
    let signed = ready.signature.map_or_else(
        || "not signed".to_owned(),
        |signature| format!("version {}, key {}", signature.counter, signature.key),
    );
    let trial = if ready.on_trial { ", confirmed" } else { "" };
    let back = if ready.rolled_back { ", come back to" } else { "" };
    let locked = if memory_locked { "locked" } else { "not locked" };
    let profiled = if is_profiled { ", profiled" } else { "" };
    let on = match session.backend() {
        "wgpu" => "on the GPU".to_owned(),
        _ => format!("{} × {}", session.isa().name(), session.threads()),
    };
    eprintln!(
        "dynamaxd: slot {}{back}{trial}: {} ({}), {signed}; {} planned, {locked}; {on}{profiled}",
        ready.slot,
        meta.name,
        meta.architecture,
        dynamax_config::show_bytes(session.planned_bytes()),
    );
}

/// Where answers are made.
struct Desk<'d, 's> {
    generator: Generator<'s>,
    text: &'d Text,
    chat: &'d Chat,
    live: &'d Live,
    config: &'d DeviceConfig,
    /// The budget that is kept now.
    budget: Budget,
    /// How deep tokens go under a configuration.
    depth: &'d dyn Fn(&DeviceConfig) -> Result<Depth>,
}

impl Desk<'_, '_> {
    fn answer(&mut self, job: Job) {
        let Job { task, reply } = job;
        if reply.is_closed() || self.live.is_cut() {
            return;
        }
        let event = match self.try_answer(&task, &reply) {
            Ok(summary) if summary.end == End::Meter => Event::Refused(Refusal::Meter),
            Ok(summary) => Event::Done(summary),
            Err(error) => Event::Refused(Refusal::Request(format!("{error:#}"))),
        };
        // Nobody may be there to hear it.
        let _ = reply.send(event);
    }

    fn try_answer(&mut self, task: &Task, reply: &UnboundedSender<Event>) -> Result<Summary> {
        let prompt = self.encode(&task.prompt)?;
        let most_tokens = task.most_tokens.unwrap_or(UNASKED_TOKENS);
        let room = self.generator.room(prompt.len());
        ensure!(
            room > 0,
            "the prompt has {} tokens and the planned context holds {}: shorten it",
            prompt.len(),
            self.generator.context()
        );
        self.keep(task.budget)?;
        let ask = Ask {
            sampling: task.sampling,
            most_tokens,
            eos: task.eos,
            alternatives: task.alternatives,
        };
        let own_stops = match task.prompt {
            Prompt::Messages(_) => self.chat.stops(),
            _ => &[],
        };
        let stops = task.stops.iter().map(String::as_str).chain(own_stops.iter().copied());
        let mut speaker = Speaker {
            stream: TextStream::new(self.text, &prompt),
            stops: Stops::new(stops),
            text: self.text,
            live: self.live,
            reply,
            waiting: Vec::new(),
            sums: Sums::default(),
            stopped: false,
        };
        let outcome = self.generator.answer(&prompt, &ask, &mut speaker)?;
        self.live.power_mode_is(self.generator.power_mode());
        let summary = speaker.end(&outcome, prompt.len());
        self.live.answered(&summary, outcome.end == End::Listener && !summary.stopped);
        Ok(summary)
    }

    /// Keeps the budget that an answer asks for, or else the device's, as it was configured or set since. Another budget
    /// starts a new sequence.
    fn keep(&mut self, asked: Budget) -> Result<()> {
        let of_device = self.live.totals().budget;
        let budget = if asked == Budget::default() { of_device } else { asked };
        if budget == self.budget {
            return Ok(());
        }
        let depth = match budget == Budget::of(self.config) {
            true => (self.depth)(self.config)?,
            false => (self.depth)(&budget.over(self.config))?,
        };
        self.generator.set_depth(depth)?;
        self.budget = budget;
        Ok(())
    }

    fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Text(text) => self.text.encode(text),
            Prompt::Tokens(ids) => Ok(ids.clone()),
            Prompt::Messages(messages) => self.chat.encode(self.text, messages),
        }
    }
}

/// Sums over the tokens of an answer.
#[derive(Default)]
struct Sums {
    tokens: usize,
    depth: f64,
    /// Of the tokens behind the first, which waits for the prompt.
    ms: f64,
    energy_mj: f64,
    measured: usize,
}

/// Turns tokens into events.
struct Speaker<'s> {
    stream: TextStream<'s>,
    stops: Stops,
    text: &'s Text,
    live: &'s Live,
    reply: &'s UnboundedSender<Event>,
    /// Tokens whose text is not complete.
    waiting: Vec<Said>,
    sums: Sums,
    stopped: bool,
}

impl Speaker<'_> {
    fn said(&self, token: &Token) -> Said {
        let text = |id| self.text.decode(&[id]);
        Said {
            id: token.id,
            text: text(token.id),
            ms: token.ms,
            segment: token.segment,
            depth: token.depth,
            energy_mj: token.energy_mj,
            logprob: token.logprob,
            alternatives: token.alternatives.iter().map(|(id, p)| (text(*id), *p)).collect(),
        }
    }

    fn send(&mut self, text: String) -> ControlFlow<()> {
        let piece = Piece { text, tokens: std::mem::take(&mut self.waiting) };
        match self.reply.send(Event::Text(piece)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Sends what is left, and sums up.
    fn end(mut self, outcome: &Outcome, prompt_tokens: usize) -> Summary {
        let rest = std::mem::replace(&mut self.stops, Stops::new([""; 0])).end();
        if !self.stopped && (!rest.is_empty() || !self.waiting.is_empty()) {
            let _ = self.send(rest);
        }
        let Sums { tokens, depth, ms, energy_mj, measured } = self.sums;
        let mean = |sum: f64, count: usize| (count > 0).then(|| sum / count as f64);
        Summary {
            end: outcome.end,
            stopped: self.stopped,
            prompt_tokens,
            reused_tokens: outcome.reused,
            tokens,
            first_token_ms: outcome.first_token_ms,
            ms_per_token: mean(ms, tokens.saturating_sub(1)),
            depth_mean: mean(depth, tokens),
            energy_mj_per_token: mean(energy_mj, measured),
            energy_source: self.live.totals().loaded.energy_source,
            agreement: outcome.agreement(),
        }
    }
}

impl Listener for Speaker<'_> {
    fn is_there(&mut self) -> bool {
        self.live.progress();
        !self.reply.is_closed() && !self.live.is_cut()
    }

    fn token(&mut self, token: &Token) -> ControlFlow<()> {
        let said = self.said(token);
        let is_first = self.sums.tokens == 0;
        self.live.token(&said, is_first);
        if let Some(course) = token.course {
            self.live.metered(course.fault);
            self.live.steered(course.steering.map(|steering| steering.events));
        }
        self.sums.tokens += 1;
        self.sums.depth += said.depth;
        self.sums.ms += if is_first { 0.0 } else { said.ms };
        self.sums.measured += usize::from(said.energy_mj.is_some());
        self.sums.energy_mj += said.energy_mj.unwrap_or(0.0);
        self.waiting.push(said);
        let (certain, stopped) = self.stops.push(&self.stream.push(token.id));
        self.stopped = stopped;
        if stopped || !certain.is_empty() {
            self.send(certain)?;
        }
        if stopped || !self.is_there() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
