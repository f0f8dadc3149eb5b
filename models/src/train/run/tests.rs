//! Whole runs of toys.

use super::*;
use crate::exits::{ClassifierConfig, ExitConfig, Exits};
use crate::train::ExitsRecipe;
use crate::train::recipe::{Architecture, tests::toy};
use tempfile::TempDir;

/// A short text in a folder of its own, and a toy recipe for it.
fn toy_on_text(arch: Architecture) -> (TempDir, Recipe) {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    std::fs::write(&text, "a quick brown fox jumps over the lazy dog and back. ".repeat(12))
        .unwrap();
    let recipe = Recipe { text: vec![text], ..toy(arch) };
    (dir, recipe)
}

fn steps(steps: u64) -> Limit {
    Limit { steps: Some(steps), ..Limit::default() }
}

fn last_loss(run: &mut Run) -> f32 {
    let mut loss = f32::NAN;
    while !run.is_done() {
        loss = run.step().unwrap().loss;
    }
    loss
}

#[test]
fn every_architecture_learns_a_short_text_by_heart() {
    for arch in [Architecture::Mamba2, Architecture::Mamba, Architecture::Transformer] {
        let (dir, recipe) = toy_on_text(arch);
        let mut run = Run::start(&dir.path().join("out"), recipe, steps(100)).unwrap();
        let loss = last_loss(&mut run);
        assert!(loss < 0.4, "{arch:?}: {loss} after 100 steps");
        let held_out = run.held_out_loss(usize::MAX);
        assert!(held_out < 2.5, "{arch:?}: the end of the text is like its start: {held_out}");
    }
}

#[test]
fn a_run_that_was_interrupted_ends_as_one_that_was_not() {
    let (dir, recipe) = toy_on_text(Architecture::Mamba2);
    let whole = dir.path().join("whole");
    let mut run = Run::start(&whole, recipe.clone(), steps(9)).unwrap();
    let expected = last_loss(&mut run);
    run.save().unwrap();

    let parts = dir.path().join("parts");
    let mut run = Run::start(&parts, recipe, steps(9)).unwrap();
    for _ in 0..4 {
        run.step().unwrap();
    }
    run.save().unwrap();
    // Steps after the checkpoint are lost, as in a kill.
    run.step().unwrap();
    drop(run);
    let mut run = Run::resume(&parts, steps(9)).unwrap();
    assert_eq!(run.steps(), 4, "where it was saved");
    assert_eq!(last_loss(&mut run).to_bits(), expected.to_bits(), "the same loss");
    run.save().unwrap();
    let model = |dir: &Path| std::fs::read(dir.join("model.safetensors")).unwrap();
    assert!(model(&whole) == model(&parts), "the same model");
}

/// A toy with exits after both of its first layers, of two kinds.
fn toy_with_exits(arch: Architecture) -> (TempDir, Recipe) {
    let (dir, recipe) = toy_on_text(arch);
    let exit = |(after_layer, name): (usize, &str)| ExitConfig {
        after_layer,
        classifier: ClassifierConfig::narrow(name, recipe.d_model).unwrap(),
        adapter: (after_layer == 1).then_some(16),
    };
    let exits = ExitsRecipe {
        exits: [(1, "mamba"), (2, "ffn")].map(exit).into(),
        top_k: 1,
        exit_loss: 0.3,
        exit_distill: 0.7,
        layer_dropout: 0.2,
    };
    (dir, Recipe { layers: 3, exits: Some(exits), ..recipe })
}

#[test]
fn exits_of_every_architecture_learn_to_agree_and_to_know_when() {
    for arch in [Architecture::Mamba2, Architecture::Mamba, Architecture::Transformer] {
        let (dir, recipe) = toy_with_exits(arch);
        let mut run = Run::start(&dir.path().join("out"), recipe, steps(120)).unwrap();
        let before = run.evaluate_exits(usize::MAX).unwrap();
        let loss = last_loss(&mut run);
        assert!(loss < 1.0, "{arch:?}: {loss} after 120 steps");
        let after = run.evaluate_exits(usize::MAX).unwrap();
        for (before, after) in before.exits.iter().zip(&after.exits) {
            assert!(after.loss < before.loss - 1.0, "{arch:?}: {before:?} became {after:?}");
            assert!(after.agreement > 0.6, "{arch:?}: {after:?}");
        }
    }
}

#[test]
fn a_run_with_exits_that_was_interrupted_ends_as_one_that_was_not() {
    let (dir, recipe) = toy_with_exits(Architecture::Mamba2);
    let whole = dir.path().join("whole");
    let mut run = Run::start(&whole, recipe.clone(), steps(7)).unwrap();
    last_loss(&mut run);
    run.save().unwrap();
    let parts = dir.path().join("parts");
    let mut run = Run::start(&parts, recipe, steps(7)).unwrap();
    for _ in 0..3 {
        run.step().unwrap();
    }
    run.save().unwrap();
    drop(run);
    let mut run = Run::resume(&parts, steps(7)).unwrap();
    last_loss(&mut run);
    run.save().unwrap();
    for name in ["model.safetensors", "exits.safetensors", "exits.json"] {
        let file = |dir: &Path| std::fs::read(dir.join(name)).unwrap();
        assert!(file(&whole) == file(&parts), "the same {name}");
    }
}

#[test]
fn exits_lie_beside_their_model_and_belong_to_it() {
    let (dir, recipe) = toy_with_exits(Architecture::Transformer);
    let out = dir.path().join("out");
    let mut run = Run::start(&out, recipe.clone(), steps(3)).unwrap();
    let fingerprint = || Checkpoint::open(&out, &run.config).unwrap().fingerprint(&run.config);
    let first = fingerprint();
    let (config, checkpoint) = exits::open(&out, &run.config, &first).unwrap();
    assert_eq!(config.exits, recipe.exits.as_ref().unwrap().exits, "where and what they are");
    assert!(checkpoint.load(Exits::new(&config, &Device::flex())).is_ok(), "all of them");
    run.step().unwrap();
    run.save().unwrap();
    let error = exits::open(&out, &run.config, &first).unwrap_err().to_string();
    assert!(error.contains("fingerprint"), "a step makes another model: {error}");
}

#[test]
fn an_exit_that_cannot_stand_there_is_refused_before_anything_is_written() {
    let (dir, mut recipe) = toy_with_exits(Architecture::Mamba2);
    recipe.exits.as_mut().unwrap().exits[1].after_layer = 3;
    let out = dir.path().join("out");
    let error = Run::start(&out, recipe, steps(1)).unwrap_err().to_string();
    assert!(error.contains("after layer 3 of 3"), "{error}");
    assert!(!out.exists(), "nothing was made");
}

#[test]
fn the_directory_holds_a_whole_model_from_the_start() {
    let (dir, recipe) = toy_on_text(Architecture::Transformer);
    let out = dir.path().join("out");
    let run = Run::start(&out, recipe, steps(1)).unwrap();
    assert_eq!(Config::open(&out).unwrap(), run.config, "config.json");
    let loaded = crate::checkpoint::load_model(&out, &run.config).unwrap();
    let loss = held_out_loss(&loaded, &run.corpus.held_out, 16, 4, &Device::flex());
    assert_eq!(loss.to_bits(), run.held_out_loss(4).to_bits(), "model.safetensors");
    let tokenizer = Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
    assert_eq!(tokenizer.get_vocab_size(true), run.config.vocab_size(), "tokenizer.json");
}

#[test]
fn another_runs_directory_is_left_alone() {
    let (dir, recipe) = toy_on_text(Architecture::Mamba2);
    let out = dir.path().join("out");
    assert!(
        matches!(Run::resume(&out, steps(1)), Err(TrainError::NothingToResume { .. })),
        "nothing there"
    );
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("thesis.txt"), "mine").unwrap();
    let error = Run::start(&out, recipe, steps(1)).unwrap_err().to_string();
    assert!(error.contains("thesis.txt") && error.contains("--resume"), "{error}");
}

#[test]
fn a_run_that_was_killed_before_its_first_checkpoint_can_start_again() {
    let (dir, recipe) = toy_on_text(Architecture::Mamba2);
    let out = dir.path().join("out");
    Run::start(&out, recipe.clone(), steps(1)).unwrap();
    assert!(Run::start(&out, recipe.clone(), steps(1)).is_err(), "a run with a checkpoint is kept");
    std::fs::remove_file(state_path(&out)).unwrap();
    assert!(Run::start(&out, recipe, steps(1)).is_ok(), "nothing is lost");
}

#[test]
fn a_text_that_changed_is_noticed() {
    let (dir, recipe) = toy_on_text(Architecture::Mamba2);
    let out = dir.path().join("out");
    Run::start(&out, recipe.clone(), steps(1)).unwrap();
    std::fs::write(
        &recipe.text[0],
        "another text altogether, of which there is enough. ".repeat(12),
    )
    .unwrap();
    assert!(
        matches!(Run::resume(&out, steps(1)), Err(TrainError::OtherRun { .. })),
        "its fingerprint differs"
    );
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint() {
    let (dir, recipe) = toy_on_text(Architecture::Mamba2);
    let out = dir.path().join("out");
    let mut run = Run::start(&out, recipe, steps(9)).unwrap();
    let nan: Vec<Vec<f32>> =
        run.adamw.values().iter().map(|values| vec![f32::NAN; values.len()]).collect();
    run.model =
        parameters::write(run.model.clone(), &nan.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let error = run.step().unwrap_err();
    assert!(matches!(error, TrainError::Diverged { step: 0, kept: 0, .. }), "{error}");
    assert!(
        Run::resume(&out, steps(9)).unwrap().step().unwrap().loss.is_finite(),
        "the checkpoint is sound"
    );
}
