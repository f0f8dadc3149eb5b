//! One run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Device, Gradients, Tensor};
use dynamax_bundle::Hash;
use tokenizers::Tokenizer;

use super::recipe::{DistillRecipe, read_recipe, require_no_exits, state_path, write_recipe};
use crate::backbone::Backbone;
use crate::build::TextFiles;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::exits::skip::scores;
use crate::exits::{self, Balance, Evaluation, Exits, Subject, decide};
use crate::layers::{normalize, seeded};
use crate::train::adamw::{AdamW, Update};
use crate::train::batches::{Batch, Batches};
use crate::train::corpus::{Corpus, read_texts};
use crate::train::heads::{Heads, Stream};
use crate::train::state::{self, Progress};
use crate::train::{ExitLosses, Limit, Schedule, TrainError, parameters};

/// What a step did.
#[derive(Clone, Debug)]
pub struct DistillStep {
    /// Steps made, this one included.
    pub step: u64,
    /// What it came to at each exit.
    pub exits: Vec<ExitLosses>,
    /// Of the whole run, 0..=1.
    pub progress: f64,
}

/// A run that trains exits.
#[derive(Debug)]
pub struct DistillRun {
    dir: PathBuf,
    recipe: DistillRecipe,
    config: Config,
    fingerprint: Hash,
    corpus: Corpus,
    /// Frozen, and without gradients.
    backbone: Backbone,
    exits: Exits,
    adamw: AdamW,
    done: Progress,
    kept: u64,
    limit: Limit,
    since: Instant,
}

impl DistillRun {
    /// Starts a run that writes to `dir`, where no exits are yet.
    ///
    /// # Errors
    ///
    /// Exits that are there already; a recipe, a model or texts that cannot be used; a full disk.
    pub fn start(dir: &Path, recipe: DistillRecipe, limit: Limit) -> Result<Self, TrainError> {
        require_no_exits(dir)?;
        let mut run = Self::open(dir, recipe, limit)?;
        write_recipe(dir, &run.recipe)?;
        run.save()?;
        Ok(run)
    }

    /// Goes on with the run in `dir`.
    ///
    /// # Errors
    ///
    /// No run there; a model or texts that changed since; a damaged checkpoint.
    pub fn resume(dir: &Path, limit: Limit) -> Result<Self, TrainError> {
        let mut run = Self::open(dir, read_recipe(dir)?, limit)?;
        let other = |what: &str| TrainError::OtherRun { dir: dir.into(), what: what.into() };
        exits::open(dir, &run.config, &run.fingerprint).map_err(|error| match error {
            exits::ExitsError::OtherModel { .. } => other("model"),
            error => error.into(),
        })?;
        let (adamw, done) = state::load(&state_path(dir), parameters::read(&run.exits))?;
        if done.corpus != run.corpus.fingerprint {
            return Err(other("content of its texts"));
        }
        run.exits = parameters::write(run.exits, &adamw.values());
        (run.adamw, run.kept, run.done) = (adamw, done.step, done);
        Ok(run)
    }

    fn open(dir: &Path, recipe: DistillRecipe, limit: Limit) -> Result<Self, TrainError> {
        let from = &recipe.checkpoint;
        let config = Config::open(from)?;
        recipe.check(&config)?;
        let tokenizer = tokenizer(from, &config)?;
        let end = config.eos().first().copied();
        let corpus = Corpus::new(&read_texts(&recipe.text)?, &tokenizer, end, recipe.seq_len)?;
        corpus.check(config.vocab_size())?;
        let checkpoint = Checkpoint::open(from, &config)?;
        let fingerprint = checkpoint.fingerprint(&config);
        let backbone = checkpoint.load(Backbone::new(&config, &Device::flex()))?;
        let exits = Exits::new(&recipe.config(&config), &Device::flex().autodiff());
        let adamw = AdamW::new(seeded(recipe.seed, || parameters::read(&exits)));
        let done = Progress { corpus: corpus.fingerprint, ..Progress::default() };
        let since = Instant::now();
        Ok(Self {
            dir: dir.into(),
            recipe,
            config,
            fingerprint,
            corpus,
            backbone,
            exits,
            adamw,
            done,
            kept: 0,
            limit,
            since,
        })
    }

    /// Makes one step.
    ///
    /// # Errors
    ///
    /// Numbers that are none; the exits and their checkpoint stay as they were before the step.
    pub fn step(&mut self) -> Result<DistillStep, TrainError> {
        let (step, kept) = (self.done.step, self.kept);
        let batch = self.batches().at(step);
        let mut balance = self.done.balance.clone();
        let (losses, gradients) = self.losses(&batch, &mut balance)?;
        let sum: f64 = losses.iter().map(|exit| exit.decision + exit.divergence).sum();
        if !sum.is_finite() {
            return Err(TrainError::Diverged { step, loss: sum as f32, kept });
        }
        let gradients = parameters::read_gradients(&self.exits, &gradients);
        let schedule = Schedule { peak: self.recipe.lr, warmup: self.recipe.warmup };
        let rate = schedule.rate(step, self.progress());
        let DistillRecipe { weight_decay, clip, .. } = self.recipe;
        let norm = self.adamw.update(&gradients, Update { step, rate, weight_decay, clip });
        if !norm.is_finite() {
            return Err(TrainError::Diverged { step, loss: norm as f32, kept });
        }
        self.exits = parameters::write(self.exits.clone(), &self.adamw.values());
        self.done.step += 1;
        self.done.balance = balance;
        Ok(DistillStep { step: step + 1, exits: losses, progress: self.progress() })
    }

    /// Runs the backbone, then every exit forwards and backwards.
    fn losses(
        &self,
        batch: &Batch,
        balance: &mut Balance,
    ) -> Result<(Vec<ExitLosses>, Gradients), TrainError> {
        let exits = &self.exits.exits;
        let mut residuals = Vec::with_capacity(exits.len());
        let last = self.backbone.walk(batch.inputs(&Device::flex()), |index, x, layer| {
            let x = layer(x);
            let here = exits.iter().filter(|exit| exit.after_layer == index + 1);
            residuals.extend(here.map(|_| x.clone()));
            x
        });
        let tracked: Vec<Tensor<3>> = residuals.into_iter().map(Tensor::from_inner).collect();
        let adapted = exits.iter().zip(&tracked).map(|(exit, x)| exit.adapt(x.clone()));
        let adapted: Vec<Tensor<2>> = adapted.map(|x| rows(self.normed(x))).collect();
        let oracle = rows(self.backbone.final_norm(last));
        let mut streams = vec![Stream { rows: oracle, text: 0.0, teacher: 0.0 }];
        streams.extend(exits.iter().zip(&adapted).enumerate().map(|(index, (exit, x))| Stream {
            rows: x.clone().inner(),
            text: 0.0,
            // Without an adapter nothing can be moved.
            teacher: if exit.adapter.is_some() { self.weight(index) } else { 0.0 },
        }));
        let (head, targets, top_k) = (self.backbone.head(), &batch.targets[..], self.recipe.top_k);
        let output = Heads { head, targets, top_k, is_trained: false }.run(&streams);
        if !output.streams[0].loss.is_finite() {
            return Err(TrainError::Oracle { step: self.done.step });
        }
        let mut told = Vec::new();
        let mut losses = Vec::new();
        let mut has_left = vec![false; targets.len()];
        for (index, stream) in output.streams.iter().skip(1).enumerate() {
            if let Some(gradient) = &stream.gradient {
                told.push(tell(adapted[index].clone(), gradient.clone()));
            }
            let reaching =
                scores(&exits[index], tracked[index].clone(), &has_left, self.recipe.state);
            let mut decision = 0.0;
            if let Some((logits, tokens)) = reaching {
                let labels: Vec<bool> = tokens.iter().map(|token| stream.is_good[*token]).collect();
                let (loss, gradient) = decide(logits.clone().inner(), &labels, balance, index);
                told.push(tell(logits, gradient * self.weight(index)));
                decision = loss;
            }
            for (left, is_good) in has_left.iter_mut().zip(&stream.is_good) {
                *left |= is_good;
            }
            losses.push(ExitLosses {
                loss: stream.loss,
                divergence: stream.divergence,
                agreement: stream.agreement(),
                decision,
            });
        }
        let told = told.into_iter().reduce(|sum, next| sum + next);
        let told = told.unwrap_or_else(|| unreachable!("every token reaches the first exit"));
        Ok((losses, told.backward()))
    }

    /// The backbone's final norm, through which gradients reach adapters and stop there.
    fn normed(&self, x: Tensor<3>) -> Tensor<3> {
        let norm = self.backbone.norm();
        normalize(x, norm.eps) * Tensor::from_inner(norm.weight.val()).unsqueeze()
    }

    /// What an exit's losses weigh: linearly less with each exit before it.
    fn weight(&self, exit: usize) -> f32 {
        let count = self.exits.exits.len();
        (count - exit) as f32 / count as f32
    }

    /// How good the exits are on the held-out ends of the texts, from at most `sequences` of them.
    #[must_use]
    pub fn evaluate(&self, sequences: usize) -> Evaluation {
        let exits = self.exits.valid();
        let DistillRecipe { top_k, state, seq_len, .. } = self.recipe;
        let (backbone, balance) = (&self.backbone, &self.done.balance);
        Subject { backbone, exits: &exits, balance, top_k, state }.evaluate(
            &self.corpus.held_out,
            seq_len,
            sequences,
        )
    }

    /// Writes a checkpoint, then the exits for others to read.
    ///
    /// # Errors
    ///
    /// A full disk; what was there before stays.
    pub fn save(&mut self) -> Result<(), TrainError> {
        self.write(None)
    }

    /// As [`save`](Self::save), and says beside the exits how good they are.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    pub fn finish(&mut self, evaluation: Evaluation) -> Result<(), TrainError> {
        self.write(Some(evaluation))
    }

    fn write(&mut self, evaluation: Option<Evaluation>) -> Result<(), TrainError> {
        let now = Progress { seconds: self.seconds(), ..self.done.clone() };
        state::save(&state_path(&self.dir), &self.adamw, &now)?;
        self.kept = now.step;
        let exits = self.exits.clone().calibrated(&self.done.balance);
        let config = self.recipe.config(&self.config);
        let model = (&self.config, &self.fingerprint);
        exits::write(&self.dir, model, &config, &exits, evaluation)?;
        Ok(())
    }

    /// The share of the run that is done, by the limit that will end it.
    #[must_use]
    pub fn progress(&self) -> f64 {
        self.limit.progress(self.done.step, self.seconds(), self.batches().steps_per_epoch())
    }

    /// Is a limit met?
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.progress() >= 1.0
    }

    /// Seconds of the run so far.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.done.seconds + self.since.elapsed().as_secs_f64()
    }

    /// Steps made.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.done.step
    }

    /// Numbers that are trained, and numbers of the model.
    #[must_use]
    pub fn params(&self) -> (usize, usize) {
        (self.exits.num_params(), self.backbone.num_params())
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &DistillRecipe {
        &self.recipe
    }

    /// Tokens to train on, and tokens held out.
    #[must_use]
    pub fn corpus_tokens(&self) -> (usize, usize) {
        (self.corpus.train.len(), self.corpus.held_out.len())
    }

    fn batches(&self) -> Batches<'_> {
        let DistillRecipe { batch, seq_len, seed, .. } = self.recipe;
        Batches::new(&self.corpus.train, batch, seq_len, seed)
    }
}

/// The tokenizer of a checkpoint.
fn tokenizer(checkpoint: &Path, config: &Config) -> Result<Tokenizer, TrainError> {
    let texts = TextFiles::open(checkpoint, config);
    let texts = texts.map_err(|error| TrainError::Tokenizer(error.to_string()))?;
    let path = checkpoint.display();
    let bytes = texts.tokenizer;
    let bytes = bytes.ok_or_else(|| TrainError::Tokenizer(format!("{path}: has no tokenizer")))?;
    let tokenizer = Tokenizer::from_bytes(bytes);
    tokenizer.map_err(|error| TrainError::Tokenizer(format!("{path}: {error}")))
}

/// `[batch, seq, width]` as `[batch · seq, width]`.
fn rows(x: Tensor<3>) -> Tensor<2> {
    let [batch, seq, width] = x.dims();
    x.reshape([batch * seq, width])
}

/// Tells Burn a gradient: that of `Σ x ⊙ g` by `x` is `g`.
fn tell(x: Tensor<2>, gradient: Tensor<2>) -> Tensor<1> {
    (x * Tensor::from_inner(gradient)).sum()
}

#[cfg(test)]
mod tests;
