//! One training run.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use tokenizers::Tokenizer;

use super::adamw::{AdamW, Update};
use super::batches::Batches;
use super::corpus::{Corpus, read_texts};
use super::directory::{read_recipe, require_empty, state_path, training, write_texts};
use super::joint::{ExitLosses, Model, Pass};
use super::loss::held_out_loss;
use super::schedule::Schedule;
use super::state::{self, Progress};
use super::tokenizer::{END_OF_TEXT, train_tokenizer};
use super::{Limit, Recipe, TrainError, parameters};
use crate::checkpoint::{Checkpoint, export};
use crate::config::Config;
use crate::exits::{self, Evaluation, State, Subject};
use crate::layers::seeded;
use crate::random::SplitMix;

/// What a step did.
#[derive(Clone, Debug)]
pub struct Step {
    /// Steps made, this one included.
    pub step: u64,
    /// Mean loss of its tokens at full depth, before the update.
    pub loss: f32,
    /// What it came to at each exit.
    pub exits: Vec<ExitLosses>,
    /// Norm of the gradients before clipping.
    pub norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// Of the whole run, 0..=1.
    pub progress: f64,
}

/// A training run.
#[derive(Debug)]
pub struct Run {
    dir: PathBuf,
    recipe: Recipe,
    config: Config,
    corpus: Corpus,
    device: Device,
    model: Model,
    adamw: AdamW,
    done: Progress,
    kept: u64,
    limit: Limit,
    since: Instant,
}

impl Run {
    /// Starts a run in `dir`, which is empty or not there: trains a tokenizer, draws a model, and saves both.
    ///
    /// # Errors
    ///
    /// An occupied directory, a recipe or texts that cannot be used, a full disk.
    pub fn start(dir: &Path, recipe: Recipe, limit: Limit) -> Result<Self, TrainError> {
        recipe.check()?;
        require_empty(dir)?;
        let texts = read_texts(&recipe.text)?;
        let tokenizer = train_tokenizer(&texts, recipe.vocab_size)?;
        let end = tokenizer.token_to_id(END_OF_TEXT).unwrap_or_default();
        let config = recipe.config(tokenizer.get_vocab_size(true), end);
        let corpus = Corpus::new(&texts, &tokenizer, Some(end), recipe.seq_len)?;
        let training = training(dir);
        std::fs::create_dir_all(&training)
            .map_err(|error| TrainError::Write { path: training, error })?;
        write_texts(dir, &tokenizer, &recipe, end)?;
        let device = Device::flex().autodiff();
        let model = Model::new(&recipe, &config, &device);
        // Parameters are drawn when they are read first: here, and from a generator that no other thread shares.
        let adamw = AdamW::new(seeded(recipe.seed, || parameters::read(&model)));
        let done = Progress { corpus: corpus.fingerprint, ..Progress::default() };
        let since = Instant::now();
        let mut run = Self {
            dir: dir.into(),
            recipe,
            config,
            corpus,
            device,
            model,
            adamw,
            done,
            kept: 0,
            limit,
            since,
        };
        run.save()?;
        Ok(run)
    }

    /// Goes on with the run in `dir`.
    ///
    /// # Errors
    ///
    /// No run there, texts that changed since, a damaged checkpoint.
    pub fn resume(dir: &Path, limit: Limit) -> Result<Self, TrainError> {
        let recipe = read_recipe(dir)?;
        let path = dir.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path)
            .map_err(|error| TrainError::Damaged { path, reason: error.to_string() })?;
        let end = tokenizer.token_to_id(END_OF_TEXT).unwrap_or_default();
        let config = recipe.config(tokenizer.get_vocab_size(true), end);
        let texts = read_texts(&recipe.text)?;
        let corpus = Corpus::new(&texts, &tokenizer, Some(end), recipe.seq_len)?;
        let device = Device::flex().autodiff();
        let model = Model::new(&recipe, &config, &device);
        let (adamw, done) = state::load(&state_path(dir), parameters::read(&model))?;
        if done.corpus != corpus.fingerprint {
            return Err(TrainError::OtherRun {
                dir: dir.into(),
                what: "content of its texts".into(),
            });
        }
        let model = parameters::write(model, &adamw.values());
        let (since, kept) = (Instant::now(), done.step);
        Ok(Self {
            dir: dir.into(),
            recipe,
            config,
            corpus,
            device,
            model,
            adamw,
            done,
            kept,
            limit,
            since,
        })
    }

    /// Makes one step.
    ///
    /// # Errors
    ///
    /// A loss that is no number; the model and its checkpoint stay as they were before the step.
    pub fn step(&mut self) -> Result<Step, TrainError> {
        let batch = self.batches().at(self.done.step);
        let pass = Pass {
            inputs: batch.inputs(&self.device),
            targets: &batch.targets,
            exits: self.recipe.exits.as_ref(),
            dropped: &self.dropped(),
        };
        let mut balance = self.done.balance.clone();
        let (losses, gradients) = pass.run(&self.model, &mut balance);
        if let Some(loss) = losses.broken() {
            return Err(TrainError::Diverged { step: self.done.step, loss, kept: self.kept });
        }
        let gradients = parameters::read_gradients(&self.model, &gradients);
        let progress = self.progress();
        let schedule = Schedule { peak: self.recipe.lr, warmup: self.recipe.warmup };
        let rate = schedule.rate(self.done.step, progress);
        let Recipe { weight_decay, clip, .. } = self.recipe;
        let norm = self
            .adamw
            .update(&gradients, Update { step: self.done.step, rate, weight_decay, clip });
        if !norm.is_finite() {
            let (step, loss) = (self.done.step, norm as f32);
            return Err(TrainError::Diverged { step, loss, kept: self.kept });
        }
        self.model = parameters::write(self.model.clone(), &self.adamw.values());
        self.done.step += 1;
        self.done.balance = balance;
        Ok(Step {
            step: self.done.step,
            loss: losses.full,
            exits: losses.exits,
            norm,
            rate,
            progress: self.progress(),
        })
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

    /// The mean loss over the held-out ends of the texts, from at most `sequences` of them.
    #[must_use]
    pub fn held_out_loss(&self, sequences: usize) -> f64 {
        let model = self.model.backbone.valid();
        held_out_loss(
            &model,
            &self.corpus.held_out,
            self.recipe.seq_len,
            sequences,
            &Device::flex(),
        )
    }

    /// How good the exits are on the held-out ends of the texts, from at most `sequences` of them; `None` without
    /// exits.
    #[must_use]
    pub fn evaluate_exits(&self, sequences: usize) -> Option<Evaluation> {
        let recipe = self.recipe.exits.as_ref()?;
        let model = self.model.valid();
        let subject = Subject {
            backbone: &model.backbone,
            exits: &model.exits,
            balance: &self.done.balance,
            top_k: recipe.top_k,
            state: State::Deferred,
        };
        Some(subject.evaluate(&self.corpus.held_out, self.recipe.seq_len, sequences))
    }

    /// Writes a checkpoint, then the model and its exits for others to read.
    ///
    /// # Errors
    ///
    /// A full disk; the checkpoint before it stays.
    pub fn save(&mut self) -> Result<(), TrainError> {
        self.write(None)
    }

    /// As [`save`](Self::save), and says beside the exits how good they are.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    pub fn finish(&mut self, evaluation: Option<Evaluation>) -> Result<(), TrainError> {
        self.write(evaluation)
    }

    fn write(&mut self, evaluation: Option<Evaluation>) -> Result<(), TrainError> {
        let now = Progress { seconds: self.seconds(), ..self.done.clone() };
        state::save(&state_path(&self.dir), &self.adamw, &now)?;
        self.kept = now.step;
        export(&self.dir, &self.config, &self.model.backbone)?;
        if let Some(recipe) = &self.recipe.exits {
            let exits = self.model.exits.clone().calibrated(&self.done.balance);
            let fingerprint = Checkpoint::open(&self.dir, &self.config)?.fingerprint(&self.config);
            let config = recipe.config(&self.config);
            exits::write(&self.dir, (&self.config, &fingerprint), &config, &exits, evaluation)?;
        }
        Ok(())
    }

    /// The layers that the next step leaves out: a function of the seed and the step alone.
    fn dropped(&self) -> Vec<bool> {
        let layers = self.recipe.layers;
        let Some(exits) = &self.recipe.exits else { return vec![false; layers] };
        let seed = self.recipe.seed ^ self.done.step.wrapping_mul(0xd134_2543_de82_ef95);
        let mut random = SplitMix::new(seed);
        (0..layers).map(|index| random.unit() < exits.dropout(index, layers)).collect()
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

    /// Numbers that are trained.
    #[must_use]
    pub fn params(&self) -> usize {
        self.adamw.values().iter().map(|values| values.len()).sum()
    }

    /// Where it writes.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Tokens to train on, and tokens held out.
    #[must_use]
    pub fn corpus_tokens(&self) -> (usize, usize) {
        (self.corpus.train.len(), self.corpus.held_out.len())
    }

    fn batches(&self) -> Batches<'_> {
        let Recipe { batch, seq_len, seed, .. } = self.recipe;
        Batches::new(&self.corpus.train, batch, seq_len, seed)
    }
}

#[cfg(test)]
mod tests;
