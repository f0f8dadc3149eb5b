//! Whole runs on toys that were trained for a moment.

use super::*;
use crate::exits::{ClassifierConfig, ExitConfig, State};
use crate::train::{Architecture, Run};
use burn::module::{ModuleMapper, Param};
use tempfile::TempDir;

const ARCHITECTURES: [Architecture; 3] =
    [Architecture::Mamba2, Architecture::Mamba, Architecture::Transformer];

/// A toy of three layers that knows its text a little, in a folder with the text.
fn model(arch: Architecture) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    std::fs::write(&text, "a quick brown fox jumps over the lazy dog and back. ".repeat(12))
        .unwrap();
    let recipe = crate::train::toy(arch);
    let recipe = crate::train::Recipe { text: vec![text], layers: 3, ..recipe };
    let mut run = Run::start(&dir.path().join("model"), recipe, steps(25)).unwrap();
    while !run.is_done() {
        run.step().unwrap();
    }
    run.save().unwrap();
    dir
}

fn steps(steps: u64) -> Limit {
    Limit { steps: Some(steps), ..Limit::default() }
}

fn recipe(dir: &TempDir, classifier: &str) -> DistillRecipe {
    let classifier = ClassifierConfig::narrow(classifier, 32).unwrap();
    let exit = |after_layer| ExitConfig { after_layer, classifier, adapter: None };
    DistillRecipe {
        checkpoint: dir.path().join("model"),
        text: vec![dir.path().join("text.txt")],
        exits: [1, 2].map(exit).into(),
        top_k: 1,
        state: State::Deferred,
        seq_len: 16,
        batch: 4,
        lr: 1e-2,
        warmup: 2,
        weight_decay: 0.0,
        clip: 1.0,
        seed: 3,
    }
}

/// Makes every number none.
struct Break;

impl ModuleMapper for Break {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|x| x * f32::NAN)
    }
}

fn finish(run: &mut DistillRun) -> Evaluation {
    while !run.is_done() {
        run.step().unwrap();
    }
    let evaluation = run.evaluate(usize::MAX);
    run.finish(evaluation.clone()).unwrap();
    evaluation
}

#[test]
fn every_classifier_learns_on_every_architecture() {
    for arch in ARCHITECTURES {
        let dir = model(arch);
        for name in ["calm", "ffn", "mamba"] {
            let out = dir.path().join(name);
            let mut run = DistillRun::start(&out, recipe(&dir, name), steps(60)).unwrap();
            let mut losses = Vec::new();
            while !run.is_done() {
                let exits = run.step().unwrap().exits;
                losses.push(exits.iter().map(|exit| exit.decision).sum::<f64>() / 2.0);
            }
            let last = losses[40..].iter().sum::<f64>() / 20.0;
            assert!(last < 0.65, "{arch:?}, {name}: {last}");
            let evaluation = finish(&mut run);
            let honest = evaluation.exits.iter().all(|exit| exit.calibration_error < 0.3);
            assert!(honest, "{arch:?}, {name}: {evaluation:?}");
        }
    }
}

#[test]
fn adapters_bring_exits_nearer_to_full_depth_and_leave_the_model_alone() {
    for arch in ARCHITECTURES {
        let dir = model(arch);
        let weights = || std::fs::read(dir.path().join("model/model.safetensors")).unwrap();
        let before = weights();
        let mut recipe = recipe(&dir, "calm");
        recipe.exits.iter_mut().for_each(|exit| exit.adapter = Some(32));
        let mut run = DistillRun::start(&dir.path().join("out"), recipe, steps(60)).unwrap();
        let without = run.evaluate(usize::MAX);
        let with = finish(&mut run);
        for (without, with) in without.exits.iter().zip(&with.exits) {
            assert!(with.divergence < 0.8 * without.divergence, "{without:?} became {with:?}");
        }
        assert!(weights() == before, "not a byte of the model");
        assert!((with.full_loss - without.full_loss).abs() < 1e-9, "nor what it says");
    }
}

#[test]
fn a_run_that_was_interrupted_ends_as_one_that_was_not() {
    let dir = model(Architecture::Mamba2);
    let recipe = DistillRecipe { state: State::Skip, ..recipe(&dir, "mamba") };
    let whole = dir.path().join("whole");
    finish(&mut DistillRun::start(&whole, recipe.clone(), steps(6)).unwrap());
    let parts = dir.path().join("parts");
    let mut run = DistillRun::start(&parts, recipe, steps(6)).unwrap();
    for _ in 0..3 {
        run.step().unwrap();
    }
    run.save().unwrap();
    run.step().unwrap();
    drop(run);
    finish(&mut DistillRun::resume(&parts, steps(6)).unwrap());
    for name in ["exits.json", "exits.safetensors"] {
        let file = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(file(&whole) == file(&parts), "the same {name}");
    }
}

#[test]
fn what_is_stored_scores_as_it_was_evaluated() {
    let dir = model(Architecture::Transformer);
    let out = dir.path().join("out");
    let mut run = DistillRun::start(&out, recipe(&dir, "ffn"), steps(20)).unwrap();
    let evaluation = finish(&mut run);
    let (config, weights) = exits::open(&out, &run.config, &run.fingerprint).unwrap();
    let stored = weights.load(Exits::new(&config, &Device::flex())).unwrap();
    // What is stored needs no shift: an estimate of one half makes none.
    let balance = Balance::default();
    let subject = Subject {
        backbone: &run.backbone,
        exits: &stored,
        balance: &balance,
        top_k: 1,
        state: State::Deferred,
    };
    let again = subject.evaluate(&run.corpus.held_out, 16, usize::MAX);
    for (a, b) in evaluation.exits.iter().zip(&again.exits) {
        assert!((a.auc - b.auc).abs() < 1e-6, "{a:?} became {b:?}");
        assert!((a.calibration_error - b.calibration_error).abs() < 1e-4, "{a:?} became {b:?}");
    }
}

#[test]
fn exits_that_are_there_are_not_overwritten_and_a_changed_model_is_noticed() {
    let dir = model(Architecture::Mamba2);
    let out = dir.path().join("out");
    assert!(
        matches!(DistillRun::resume(&out, steps(1)), Err(TrainError::NothingToResume { .. })),
        "nothing there"
    );
    DistillRun::start(&out, recipe(&dir, "calm"), steps(1)).unwrap();
    let error = DistillRun::start(&out, recipe(&dir, "calm"), steps(1)).unwrap_err().to_string();
    assert!(error.contains("exits.json") && error.contains("--resume"), "{error}");
    let mut run = Run::resume(&dir.path().join("model"), steps(26)).unwrap();
    run.step().unwrap();
    run.save().unwrap();
    let error = DistillRun::resume(&out, steps(1)).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
}

#[test]
fn numbers_that_are_none_stop_the_run_and_overwrite_nothing() {
    let dir = model(Architecture::Mamba2);
    let out = dir.path().join("out");
    let mut run = DistillRun::start(&out, recipe(&dir, "ffn"), steps(9)).unwrap();
    let stored = std::fs::read(out.join("exits.safetensors")).unwrap();
    let nan = |values: &[f32]| vec![f32::NAN; values.len()];
    let numbers: Vec<_> = run.adamw.values().into_iter().map(nan).collect();
    let numbers: Vec<&[f32]> = numbers.iter().map(Vec::as_slice).collect();
    let sound = run.exits.clone();
    run.exits = parameters::write(sound.clone(), &numbers);
    let error = run.step().unwrap_err();
    assert!(matches!(error, TrainError::Diverged { step: 0, .. }), "{error}");
    run.exits = sound;
    assert!(run.step().is_ok(), "the optimizer did not see it");

    run.backbone = run.backbone.clone().map(&mut Break);
    let error = run.step().unwrap_err();
    assert!(matches!(error, TrainError::Oracle { step: 1 }), "{error}");
    assert!(std::fs::read(out.join("exits.safetensors")).unwrap() == stored, "as it was");
}

#[test]
fn a_text_that_is_too_short_says_so() {
    let dir = model(Architecture::Mamba2);
    let recipe = DistillRecipe { seq_len: 4096, ..recipe(&dir, "calm") };
    let error = DistillRun::start(&dir.path().join("out"), recipe, steps(1)).unwrap_err();
    assert!(matches!(error, TrainError::TooLittleText { .. }), "{error}");
}
